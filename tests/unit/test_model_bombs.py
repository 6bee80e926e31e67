"""What a model server sends is bounded while it is read, over a real socket: it cannot fill memory or wait for ever."""

import gzip
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.chat_server import HEAD, HELLO, KEY, WAIT_S, Endless, Server, chunk, serving, sse
from tests.unit.test_odd_answers import STOP, calls, part
from worker.domain import ChatRequest, Reply, Stop, Usage, bounds
from worker.domain.usage import MOST_TOKENS
from worker.errors import ModelAnswerTooLarge, ModelRefused, ModelSilent, ModelUnavailable
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
GZIP = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
DEFLATE = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: deflate\r\n\r\n")
TWICE = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip, gzip\r\n\r\n")
FAILED = b"HTTP/1.1 500 X\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
MOVED = b"HTTP/1.1 307 X\r\nLocation: /v1/chat/completions\r\nConnection: close\r\n\r\n"
ZEROS = gzip.compress(b"0" * (1 << 20))  # a thousand bytes for a million


def begin(text: bytes) -> bytes:
    """The begin of a body in gzip."""
    gz = zlib.compressobj(9, zlib.DEFLATED, 31)
    return gz.compress(text) + gz.flush(zlib.Z_FULL_FLUSH)


def more(text: bytes) -> bytes:
    """A part of a body in gzip, which can come again and again."""
    gz = zlib.compressobj(9, zlib.DEFLATED, -15)
    return gz.compress(text) + gz.flush(zlib.Z_FULL_FLUSH)


SILENCE_S = 0.4


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[..., Reply]:
    """Ask a server once, and return its reply."""

    def ask(server: Server, request: ChatRequest = HELLO) -> Reply:
        return event_loop.ask(OpenAIChat("m", KEY, server.base_url), request, lambda _text: None, stop=Stop())

    return ask


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are reached soon."""
    monkeypatch.setattr(bounds, "REPLY_LENGTH", 50_000)
    monkeypatch.setattr(bounds, "EVENT_BYTES", 200_000)
    monkeypatch.setattr(bounds, "STREAM_BYTES", 2_000_000)
    monkeypatch.setattr(bounds, "COMPRESSED_BYTES", 500_000)
    monkeypatch.setattr(bounds, "DOCUMENTS", 5_000)


REFUSAL = sse({"choices": [{"index": 0, "delta": {"refusal": "no " * 999}, "finish_reason": None}]})
BOMBS = {
    "a line without an end": (HEAD, b"data: ", Endless(b"q" * 4096)),
    "an event of many lines": (HEAD, Endless(b"data:\n" * 4096)),
    "lines that are no event": (HEAD, Endless(b"x\n" * 4096)),
    "a body without an end": (JSON, b'{"choices": "', Endless(b"q" * 4096)),
    "text": (HEAD, Endless(chunk(content="y" * 999))),
    "text in small pieces": (HEAD, Endless(chunk(content="yz") * 99)),
    "a refusal": (HEAD, Endless(REFUSAL)),
    "text in parts": (HEAD, Endless(chunk(content=[{"type": "text", "text": "y" * 999}]))),
    "arguments": (HEAD, calls(part("pay", "", id="a")), Endless(calls(part("", "9" * 999)))),
    "a name": (HEAD, Endless(calls(part("n" * 999, "")))),
    "calls": (HEAD, Endless(calls(part("pay", "{}"), part("pay", "{}")))),
    "whole messages": (HEAD, Endless(sse({"choices": [{"message": {"content": "y" * 99_999}}]}))),
    "empty events": (HEAD, Endless(chunk() * 99)),
    "events of another kind": (HEAD, Endless(sse({"ping": 1}) * 99)),
    "comments": (HEAD, Endless(b": ping\n\n" * 999)),
    "a bomb of gzip": (GZIP, begin(b"data: "), Endless(more(b"0" * (1 << 20)))),
    "comments in gzip": (GZIP, begin(b"\n"), Endless(more(b": \n" * 400_000))),
    "what decompresses to nothing": (GZIP, gzip.compress(b"data: "), Endless(ZEROS)),
    "a bomb of deflate": (DEFLATE, zlib.compress(b"data: ")[:2], Endless(more(b"0" * (1 << 20)))),
    "a bomb in a bomb": (TWICE, Endless(gzip.compress(begin(b"data: ") + more(b"0" * (1 << 20)) * 999))),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.usefixtures("small")
def test_an_answer_without_an_end_is_left_with_a_sentence(ask, name):
    """The connection is closed as soon as a limit is reached, and the run is told which. It is not asked for again."""
    with serving(*BOMBS[name]) as server, pytest.raises(ModelAnswerTooLarge, match="is larger than") as raised:
        ask(server)

    assert server.left.wait(WAIT_S)
    assert not raised.value.retry
    assert "Asking again does not help" in raised.value.message


@pytest.mark.usefixtures("small")
def test_what_follows_a_whole_answer_does_not_spoil_it(ask):
    """Its finish reason has come: the rest is not read."""
    with serving(HEAD, chunk(content="hello"), STOP, Endless(b"data: " + b"q" * 4096)) as server:
        assert ask(server).content == "hello"

    assert server.left.wait(WAIT_S)


@pytest.mark.usefixtures("small")
def test_large_answers_below_the_limits_are_read(ask):
    """Text, arguments and many calls."""
    many = [part(f"pay{n}", '{"a": 1}', id=f"id{n}", index=n) for n in range(500)]
    with serving(HEAD, chunk(content="y" * 20_000), calls(*many), chunk("tool_calls")) as server:
        reply = ask(server)

    assert (len(reply.content), len(reply.tool_calls)) == (20_000, 500)


@pytest.mark.usefixtures("small")
def test_fields_of_a_provider_are_dropped_when_they_are_too_many(ask):
    """The answer is used. They do not pile up while it is read."""
    more = chunk(reasoning_content="r" * 100_000)
    with serving(HEAD, *[more] * 12, chunk(content="hello"), STOP) as server:
        reply = ask(server)

    assert (reply.content, reply.extra) == ("hello", None)


@pytest.mark.parametrize("head", [FAILED, MOVED], ids=["an error", "a redirect"])
@pytest.mark.parametrize("encoding", ["", "gzip", "gzip, gzip"])
def test_a_body_of_an_error_is_read_in_part(ask, head, encoding):
    """Its first words are enough, and an endless or compressed body fills nothing."""
    head = head.replace(b"\r\n\r\n", f"\r\nContent-Encoding: {encoding}\r\n\r\n".encode()) if encoding else head
    first = b"it broke " if not encoding else gzip.compress(b"it broke ")
    with serving(head, first, Endless(b"e" * 4096 if not encoding else ZEROS)) as server:
        with pytest.raises((ModelUnavailable, ModelRefused)) as raised:
            ask(server)

        assert server.left.wait(WAIT_S)
    if head.startswith(b"HTTP/1.1 500") and "," not in encoding:
        assert "it broke" in raised.value.message
    assert len(raised.value.message) < 600


def slowly(sent: bytes) -> list[object]:
    """A part of a script: send this, and again after a while, longer than a silent model is waited for in all."""
    return [step for _ in range(20) for step in (sent, lambda: time.sleep(SILENCE_S / 4))]


SIGNS = {
    "comments": b": OPENROUTER PROCESSING\n\n",
    "empty lines": b"\n",
    "events without data": b"event: ping\n\n",
    "empty data": b"data: \n\n",
    "pings": b"data: ping\n\n",
    "objects that are no answer": b"data: {}\n\n",
    "a list of nothing": b"data: []\n\n",
    "other objects": sse({"type": "ping"}),
    "no choices": sse({"id": "c", "choices": []}),
    "parts of a line": b"x",
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs_of_life_are_no_answer(ask, name):
    """A model is silent whose server sends only comments and the like; it is asked again."""
    late = (b"\n\n", chunk(content="late"), STOP)
    with serving(HEAD, *slowly(SIGNS[name]), *late) as server, pytest.raises(ModelSilent) as raised:
        ask(server, replace(HELLO, silence_s=SILENCE_S))

    assert raised.value.retry


def test_headers_that_come_byte_by_byte_are_no_answer(ask):
    """The time of a silent model counts from the request to the last header."""
    late = (HEAD[15:], chunk(content="late"), STOP)
    with serving(HEAD[:15], *slowly(b"K"), *late) as server, pytest.raises(ModelSilent):
        ask(server, replace(HELLO, silence_s=SILENCE_S))


def test_pieces_of_an_answer_keep_a_slow_model_alive(ask):
    """Each piece begins the time anew."""
    with serving(HEAD, *slowly(chunk(content="a") + b": ping\n\n"), STOP) as server:
        assert ask(server, replace(HELLO, silence_s=SILENCE_S)).content == "a" * 20


VALUES = {
    "negative": -5,
    "a float": 7.9,
    "text": "7",
    "other text": "many",
    "not a number": float("nan"),
    "infinite": float("inf"),
    "1e308": 1e308,
    "64 bits": 2**64,
    "a list": [1],
    "an object": {"a": 1},
    "null": None,
    "true": True,
}
READ = {"a float": 7, "text": 7, "1e308": MOST_TOKENS, "64 bits": MOST_TOKENS, "true": 1}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("place", ["usage", "details", "whole"])
def test_usage_of_any_value_fails_no_answer(ask, name, place):
    """It counts as what it says if that is a number of tokens, and as nothing otherwise."""
    value = VALUES[name]
    usage = {"prompt_tokens": value, "completion_tokens": value}
    if place == "details":
        usage = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": value}, "completion_tokens": 0}
    sent = sse({"choices": [], "usage": value if place == "whole" else usage})
    with serving(HEAD, sent, chunk(content="hello"), STOP, sent) as server:
        reply = ask(server)

    number = READ.get(name, 0)
    expected = {"usage": Usage(1, number, 0, number), "details": Usage(1, 5, min(number, 5), 0), "whole": Usage(1)}
    assert (reply.content, reply.usage) == ("hello", expected[place])


def test_a_number_of_tokens_with_thousands_of_digits_fails_no_answer(ask):
    """Python reads no integer with more than 4,300 digits."""
    text = json.dumps({"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}], "usage": {"a": 1}})
    sent = b"data: " + text.replace('"a": 1', '"prompt_tokens": ' + "9" * 5_000).encode() + b"\n\n"
    with serving(HEAD, sent) as server:
        assert ask(server).content == "hello"


@pytest.mark.parametrize("usage", [Usage(1, -5, -1, -7), Usage(1, 10**30, 0, 0), Usage(0, "a", None, 1.5), None, {}])
def test_usage_of_an_own_model_is_one_that_can_be_stored(usage):
    """A model that a team defines can return anything, too."""
    stored = Reply("ok", (), usage).usage

    numbers = (stored.model_calls, stored.input_tokens, stored.cached_input_tokens, stored.output_tokens)
    assert all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in numbers)
    assert stored.cached_input_tokens <= stored.input_tokens
