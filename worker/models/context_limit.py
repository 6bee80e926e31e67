"""Recognise that a server refused a request because it is longer than the model's context. Pure.

Servers have no common code for it, so their words are read too. The patterns are those of OpenAI, Azure, Anthropic,
Bedrock, Gemini, Mistral, xAI, Groq, DeepSeek, Moonshot, Cohere, Together, vLLM, SGLang, TGI, llama.cpp and Ollama.
"""

import re
from dataclasses import dataclass

CODES = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "model_context_window_exceeded",
        "model_max_prompt_tokens_exceeded",
        "request_too_large",
        "string_above_max_length",  # also of names and descriptions: see `_OTHER`
    }
)
TOO_LARGE = 413
OTHERS = (401, 402, 403, 408, 504)  # these statuses never mean the context
THROTTLED = 429  # "too many tokens" is a rate limit there, unless one request alone exceeds it
_SUBJECT = r"(?:prompt|input|inputs|request|messages?|conversation|context|content|contents|tokens?|token count)"
_WORDS = re.compile(
    r"(?:maximum|max|model'?s?|available|allowed) (?:context|prompt|input|sequence)[ _-]?(?:length|window|size|limit)"
    r"|context[ _-]?(?:length|window|size|limit)\W+(?:\w+\W+){0,6}?(?:exceed|overflow|reached|full)"
    r"|context[ _-]?(?:length|window|size|limit)\W+(?:\w+\W+){0,6}?too (?:long|large|small)"
    rf"|{_SUBJECT}\b\W+(?:\w+\W+){{0,6}}?(?:is|are|was|were)?\s*(?:too (?:long|large)|longer than|larger than)"
    r"|(?:exceed\w*|larger than|longer than|greater than|over|overflow\w*|beyond)\W+(?:\w+\W+){0,5}?"
    r"(?:context|max\w* (?:number of )?(?:\w+ )?tokens|max\w* length|(?:token|tokens|prompt|input|length) limit)"
    r"|(?:token count|tokens?|length)\W+(?:\w+\W+){0,6}?exceed"
    r"|too many (?:input |prompt )?tokens|must (?:be|have) (?:<=|less than|at most) \d{3,}\b[^.]*\W+given"
    r"|range of input length|more than max\w* tokens|context the overflows"
    r"|reduce (?:the|your) (?:length|size|number of tokens)\b.{0,40}(?:messages|prompt|input|context)"
    r"|prompt exceeds max|input length and .max_tokens. exceed|max(?:imum)? input (?:characters|tokens)"
    r"|token count is \d+ but|prompt\b.{0,60}not fit|上下文|(?:输入|提示词?).{0,8}(?:过长|超)",
    re.IGNORECASE,
)
_ONE_REQUEST = re.compile(r"request too large|request is too large|single request", re.IGNORECASE)
# Limits of other things: of an account, of a queue, of the description of a tool.
_OTHER = re.compile(
    r"\bper[ _-]?(?:min|hour|day|month)|\bdaily\b|\bmonth|\bquota|\bplan\b|upgrade to|please wait|rate.?limit"
    r"|\btools?(?:\[\d+\]|'|\.\d)|\btool[ _]?(?:call)?[ _](?:id|name)|access token|expired|\bqueue|took longer"
    r"|image is too",
    re.IGNORECASE,
)
_WITH_INPUT = re.compile(r"context (?:length|window)|\binputs?\W{1,3}tokens", re.IGNORECASE)
_OF_OUTPUT = re.compile(
    r"^\W*(?:\w+\W+){0,6}?max(?:imum)?_?(?:completion_|output_|new_)?tokens"
    r"\W+(?:\w+\W+){0,3}?(?:too large|must|exceeds|larger)",
    re.IGNORECASE,
)
_NUMBER = r"(\d[\d,_]*)(?![\w-]|\.\d)"
_LIMITS = (
    rf"(?:>|<=|than)\s*{_NUMBER}",
    rf"\[\s*\d+,\s*{_NUMBER}",  # a range
    rf"{_NUMBER}\s*(?:tokens?\s*)?max",
    rf"(?:max\w*|limit\w*|window|n_ctx|(?:context|allowed)[^0-9.]*?(?:size|length|\())[^0-9]{{0,60}}?(?<![\w.-]){_NUMBER}",
)
_NUMBERS = re.compile(rf"(?<![\w.-]){_NUMBER}")
READ = 2_000  # characters of an error; some servers repeat the whole prompt
LEAST = 100  # smaller numbers are statuses, indexes and the like


@dataclass(frozen=True, slots=True)
class Overflow:
    """A request was too long. `limit` and `size` are what the server says, in its unit; None: it does not."""

    limit: int | None = None
    size: int | None = None


def recognise(status: int | None, code: str, words: str) -> Overflow | None:
    """Return what an error says about the context's limit; None: it is another error."""
    if status == THROTTLED and not _ONE_REQUEST.search(words):
        return None
    words = words[:READ].replace("limit (2013)", "limit")  # a code of MiniMax
    if status in OTHERS or (_OTHER.search(words) and not _ONE_REQUEST.search(words)):
        return None
    known = code in CODES or any(name in words for name in CODES)
    if known or status in (TOO_LARGE, THROTTLED):
        return _sizes(words)
    if (_OF_OUTPUT.search(words) and not _WITH_INPUT.search(words)) or not _WORDS.search(words):
        return None
    return _sizes(words)


def _sizes(words: str) -> Overflow:
    numbers = [_integer(text) for text in _NUMBERS.findall(words)]
    for pattern in _LIMITS:
        match = re.search(pattern, words, re.IGNORECASE)
        limit = _integer(match[1]) if match else 0
        if limit >= LEAST:
            size = max(numbers, default=0)
            return Overflow(limit, size if size > limit else None)
    return Overflow()


def _integer(text: str) -> int:
    return int(text.replace(",", "").replace("_", "")[:18] or 0)
