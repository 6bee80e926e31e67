"""Answers that are none, over a real socket: half ones, refusals, errors, and what is in another format."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.chat_server import HEAD, HELLO, KEY, Server, chunk, serving, sse
from tests.unit.test_odd_answers import HEL, JSON_HEAD, STOP, calls, completion, part
from worker.domain import Reply, Stop
from worker.errors import (
    ModelAnswerInvalid,
    ModelContextExceeded,
    ModelError,
    ModelNoAnswer,
    ModelRateLimited,
    ModelRefused,
    ModelStreamBroken,
    ModelUnavailable,
)
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[[Server], Reply]:
    """Ask a server once, and return its reply."""
    return lambda server: event_loop.ask(OpenAIChat("m", KEY, server.base_url), HELLO, id, stop=Stop())


@pytest.mark.parametrize(
    "reason", ["abort", "network_error", "insufficient_system_resource", "error", "", None, {"a": 1}]
)
@pytest.mark.parametrize("sent", [chunk(content="The answer is"), calls(part("pay", '{"amount": 100}', id="a"))])
def test_an_unknown_finish_reason_is_a_broken_stream(ask, sent, reason):
    """Half an answer is no answer: nothing of it is used."""
    with serving(HEAD, sent, chunk(reason), b"data: [DONE]\n\n") as server, pytest.raises(ModelStreamBroken) as raised:
        ask(server)

    assert raised.value.retry


@pytest.mark.parametrize(
    "reason",
    [
        "length",
        "max_tokens",
        "MAX_TOKENS",
        "model_length",
        "max-tokens",
        "token_limit",
        "model_context_window_exceeded",
    ],
)
def test_a_limit_of_output_tokens_is_named(ask, reason):
    """`length` is the word for it, whatever the server's is."""
    with serving(HEAD, HEL, chunk(reason)) as server:
        assert ask(server).finish_reason == "length"


def test_a_limit_stays_if_a_later_chunk_has_another_reason(ask):
    """A proxy ends each stream with a chunk of its own."""
    with serving(HEAD, HEL, chunk("length"), STOP) as server:
        assert ask(server).finish_reason == "length"


def test_a_full_context_without_an_answer_is_a_context_that_is_too_long(ask):
    """It is made smaller."""
    with serving(HEAD, chunk("model_context_window_exceeded")) as server, pytest.raises(ModelContextExceeded):
        ask(server)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ((chunk(refusal="I can't "), chunk("stop", refusal="help.")), "it answered with a refusal: I can't help."),
        ((completion(content=None, refusal="I can't help."),), "it answered with a refusal: I can't help."),
        ((HEL, chunk("content_filter")), "its content filter stopped the answer: Hel"),
        ((chunk(refusal="No."), chunk("content_filter")), "its content filter stopped the answer: No."),
        ((chunk("SAFETY"),), "its content filter stopped the answer."),
        ((chunk("content_filter: PROHIBITED_CONTENT"),), "its content filter stopped the answer."),
        ((chunk("Content-Filter"),), "its content filter stopped the answer."),
        ((chunk(content="x" * 400), chunk("content_filter")), f"its content filter stopped the answer: {'x' * 300}."),
        ((chunk(reasoning_content="hm"), chunk("length")), "its output tokens were used up before an answer"),
    ],
)
def test_a_refusal_repeats_the_words_of_the_model(ask, script, words):
    """Asking again does not help."""
    with serving(HEAD, *script) as server, pytest.raises(ModelRefused) as raised:
        ask(server)

    assert words in str(raised.value)
    assert not raised.value.retry


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "slow down", "code": 429}, ModelRateLimited),
        ({"message": "slow down", "code": "429"}, ModelRateLimited),
        ({"message": "slow down", "type": "rate_limit_error"}, ModelRateLimited),
        ({"message": "slow down", "status": "RESOURCE_EXHAUSTED"}, ModelRateLimited),
        ({"message": "Overloaded", "type": "overloaded_error"}, ModelUnavailable),
        ({"message": "overloaded"}, ModelUnavailable),
        ({"message": "oh", "code": 502}, ModelUnavailable),
        ({"message": "oh", "status_code": 500}, ModelUnavailable),
        ({"message": "oh", "code": "server_error"}, ModelUnavailable),
        ({"message": "oh", "code": 400}, ModelRefused),
        ({"message": "oh", "code": 401}, ModelRefused),
        ({"message": "oh", "type": "invalid_request_error"}, ModelRefused),
        ({"message": "oh", "type": "insufficient_quota"}, ModelRefused),
        ({"message": "Insufficient balance, oh", "code": "1113"}, ModelRefused),
        ({"message": "prompt is too long: 1284668 tokens > 1000000 maximum", "code": 400}, ModelContextExceeded),
        ("model not found", ModelRefused),
        ({"message": "oh", "code": "data_inspection_failed"}, ModelRefused),
        ({"message": "oh", "code": "tool_use_failed", "status_code": 400}, ModelAnswerInvalid),
        ({"message": "可能包含不安全或敏感内容, oh", "code": "1301"}, ModelRefused),
        ("Unexpected endpoint or method. (POST /chat/completions)", ModelRefused),
        ({"message": "oh"}, ModelStreamBroken),
        ({"code": 1234, "message": "oh"}, ModelStreamBroken),
        (["oh"], ModelStreamBroken),
        (True, ModelStreamBroken),
    ],
)
@pytest.mark.parametrize("form", ["chunk", "body", "list", "choice", "line"])
def test_an_error_object_is_treated_as_its_status_would_be(ask, error, expected, form):
    """In a stream, in a choice, as a line of its own, or as a whole answer with status 200."""
    if form == "choice":
        document: Any = {"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": error}]}
    else:
        document = [{"error": error}] if form == "list" else {"error": error}
    text = json.dumps(document).encode() if form in ("body", "line") else sse(document)
    script = (JSON_HEAD, text) if form == "body" else (HEAD, HEL, text + b"\n", STOP)
    words = error if isinstance(error, str) else error["message"] if isinstance(error, dict) else ""

    with serving(*script) as server, pytest.raises(ModelError) as raised:
        ask(server)

    assert type(raised.value) is expected
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"object": "error", "message": "oh", "type": "BadRequestError", "code": 400}, ModelRefused),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "oh"}}, ModelUnavailable),
        ({"detail": "oh"}, ModelStreamBroken),
        ({"code": 503, "message": "oh"}, ModelUnavailable),
        ({"errors": [{"message": "oh", "code": 429}]}, ModelStreamBroken),
        ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail: oh"}}, ModelRefused),
        ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit oh"}}, ModelRateLimited),
        ({"header": {"code": 11200, "message": "oh AppIdNoAuthError"}}, ModelRefused),
        ({"error_code": 110, "error_msg": "Access token invalid, oh"}, ModelRefused),
        ({"success": False, "msg": "oh", "code": 401}, ModelRefused),
        ({"Error": {"Message": "oh", "Code": "Throttling"}}, ModelStreamBroken),
    ],
)
def test_an_error_without_the_usual_field_is_one(ask, document, expected):
    """As older servers and gateways send it."""
    with serving(HEAD, HEL, sse(document), STOP) as server, pytest.raises(ModelError, match="oh") as raised:
        ask(server)

    assert type(raised.value) is expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b'error: {"code":500,"message":"oh","type":"server_error"}\n\n', ModelUnavailable),
        (b'error: {"code":400,"message":"oh"}\n\n', ModelRefused),
        (b"event: error\ndata: Rate limit exceeded, oh\n\n", ModelRateLimited),
        (b"data: Internal Server Error, oh\n\n", ModelUnavailable),
    ],
)
@pytest.mark.parametrize("before", [(), (HEL,)])
def test_an_error_that_is_no_document_is_one(ask, sent, expected, before):
    """A field of its own, or a sentence."""
    with serving(HEAD, *before, sent) as server, pytest.raises(ModelError, match="oh") as raised:
        ask(server)

    assert type(raised.value) is expected


@pytest.mark.parametrize(
    "script",
    [
        (HEL, b"data: {broken\n\n"),
        (HEL, b"data: " + b"[" * 100_000 + b"\n\n"),
        (sse({"usage": {"total_tokens": 9, "completion_tokens": 9}, "output": "Hello"}),),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_retried_later(ask, script):
    """A part of it has come, or its tokens, so each is paid for; the server would send it again."""
    with serving(HEAD, *script) as server, pytest.raises(ModelAnswerInvalid) as raised:
        ask(server)

    assert not raised.value.retry


@pytest.mark.parametrize(
    "script",
    [
        (b"data: {broken\n\n", HEL),
        (b"data: \xff\xfe\n\n",),
        (b"\x00\xff\n\n",),
        (b'{"status": "ok"}',),
        (b'"hello"',),
        (sse({"type": "ping"}),),
        (b"<html>Come back later",),
    ],
)
def test_what_is_no_part_of_an_answer_is_asked_again_later(ask, script):
    """A gateway or a proxy sends it while the model is away, with status 200; no answer was paid for."""
    with serving(HEAD, *script) as server, pytest.raises(ModelNoAnswer) as raised:
        ask(server)

    assert raised.value.retry


@pytest.mark.parametrize(
    "body", [b"<html><head><style>p {}</style></head><p>Log in to&nbsp;the portal</html>", b"Log in to the portal"]
)
def test_a_page_in_place_of_an_answer_names_the_address(ask, body):
    """A wrong address answers with a page, and with status 200."""
    with serving(HEAD.replace(b"event-stream", b"html"), body) as server, pytest.raises(ModelNoAnswer) as raised:
        ask(server)

    assert "check OPENAI_BASE_URL: Log in to the portal." in str(raised.value)
