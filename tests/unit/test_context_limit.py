"""Which refusals mean that a context is too long, in the words of the servers, and what they say about its limit."""

import pytest

from worker.models.context_limit import Overflow, recognise


@pytest.mark.parametrize(
    ("words", "limit", "size"),
    [
        ("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens", 8192, 9000),
        ("Range of input length should be [1, 30720]", 30720, None),
        ("Your request exceeded model token limit: 8192", 8192, None),
        ("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000 `inputs` tokens and 64", 4097, 5000),
        ("`inputs` must have less than 4095 tokens. Given: 5000", 4095, 5000),
        ("The number of tokens to keep from the initial prompt is greater than the context length", None, None),
        ("invalid params, context window exceeds limit (2013)", None, None),
        ("the max input characters is 20000", 20000, None),
        ("the input token count is 1100000 but model only supports up to 1048576.", 1048576, 1100000),
        ("context length of 4096 reached", 4096, None),
        ("输入长度超过模型最大上下文长度 8192", None, None),
        ("Prompt contains 35000 tokens, too large for model with 32768 maximum context length", 32768, 35000),
    ],
)
def test_a_context_that_is_too_long_is_recognised(words, limit, size):
    """With the numbers, where the server has them."""
    overflow = recognise(400, "", words)

    assert overflow is not None
    assert overflow.limit in (limit, None)
    assert overflow.size in (size, None)


def test_the_range_of_an_input_ends_with_its_limit():
    """Its lower end is no limit."""
    assert recognise(400, "", "Range of input length should be [1, 30720]") == Overflow(30720)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "max_tokens is too large: 65536. This model supports at most 16384 completion tokens"),
        (400, "The value of max_completion_tokens is larger than the maximum of 8192"),
        (429, "Rate limit reached on tokens per min (TPM): Limit 10000, Used 9000, Requested 3000."),
        (402, "Prompt tokens limit exceeded: 20000 > 1700. Upgrade to a paid account"),
        (400, "Invalid 'tools[0].function.description': string too long (string_above_max_length)"),
        (400, "Invalid 'tools': array too long. Expected an array with maximum length 128"),
        (403, "The number of tokens per day has exceeded your quota"),
        (400, "Too many tokens, please wait before trying again."),
        (400, "This organization has exceeded the token limit of its plan"),
        (401, "Access token is too long"),
        (400, "temperature must be less than 2. Given: 3"),
        (400, "tool call id length exceeds 64"),
        (503, "Queue length exceeded"),
        (504, "The request took longer than expected to complete"),
        (400, "Invalid content: the image is too large"),
    ],
)
def test_another_limit_is_no_limit_of_the_context(status, words):
    """A smaller context would not help, and would be paid."""
    assert recognise(status, "", words) is None
