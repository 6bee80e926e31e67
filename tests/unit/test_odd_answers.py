"""Answers as servers send them, over a real socket, and what is read of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.chat_server import HEAD, HELLO, KEY, Server, chunk, serving, sse
from worker.domain import ChatRequest, Reply, Stop, ToolCall, mend
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat

JSON_HEAD = HEAD.replace(b"text/event-stream", b"application/json")
STOP = chunk("stop")
CALLS = chunk("tool_calls")
HEL, LO = chunk(content="Hel"), chunk(content="lo")


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[..., Reply]:
    """Ask a server once, and return its reply."""

    def call(server: Server, request: ChatRequest = HELLO, on_delta: Callable[[str], object] = id) -> Reply:
        return event_loop.ask(OpenAIChat("m", KEY, server.base_url), request, on_delta, stop=Stop())

    return call


def part(
    name: str | None = None, arguments: Any = "", *, id: str | None = None, index: int | None = 0
) -> dict[str, Any]:
    """One entry of `tool_calls`, with the fields that are not None."""
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {k: v for k, v in (("index", index), ("id", id), ("function", function)) if v is not None}


def calls(*parts: dict[str, Any]) -> bytes:
    """A chunk with these entries."""
    return chunk(tool_calls=list(parts))


def completion(finish: str = "stop", **message: Any) -> bytes:
    """A whole completion, as a server sends it that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return (
        json.dumps({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3}}).encode() + b"\n"
    )


@pytest.mark.parametrize(
    "script",
    [
        (HEL, LO, STOP, b"data: [DONE]\n\n"),
        (HEL, LO, STOP),
        tuple(c.replace(b"data: ", b"data:") for c in (HEL, LO, STOP)),
        tuple(
            c.replace(b"\n", b"\r\n") for c in (b": hi\n\n", b"event: x\nid: 1\n", HEL, LO, STOP, b"data: [DONE]\n\n")
        ),
        tuple(c.replace(b"\n", b"\r") for c in (HEL, LO, STOP)),
        tuple(c.replace(b"\n\n", b"\n") for c in (HEL, LO, STOP)),
        (b"\xef\xbb\xbf", HEL, LO, STOP),
        (b"id: 1\n", HEL, b": ping\n\n", LO, b": ping\n\n", STOP),
        (b"event: ping\ndata:\n\n", b"data\n\n", HEL, b"retry: 3\n\n", LO, STOP),
        (HEL, sse(None), sse("ping"), sse({"type": "ping"}), sse({"choices": []}), sse({"choices": None}), LO, STOP),
        (HEL, sse({"choices": [{"index": 0}]}), sse({"choices": [{"index": 1, "delta": {"content": "2"}}]}), LO, STOP),
        (HEL[:20], HEL[20:], LO, STOP[:-1], b"\n"),
        (b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "Hel"}}]}\n\n', LO, STOP),
        (HEL, LO, sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})[:-2]),
        tuple(c.removeprefix(b"data: ").replace(b"\n\n", b"\n") for c in (HEL, LO, STOP)),
        (HEL, LO, sse({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})),
        (HEL, sse({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})),
        (
            sse({"choices": [{"delta": {"content": "Hel"}, "message": {"content": "Hel"}}]}),
            sse({"choices": [{"delta": {"content": "lo"}, "message": {"content": "Hello"}, "finish_reason": "stop"}]}),
        ),
        (chunk(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), HEL, LO, STOP),
        (chunk(content=[{"type": "text", "text": "Hel"}, {"type": "output_text", "text": "lo"}]), STOP),
        (chunk(content=["Hel", {"text": "lo"}, {"type": "image_url"}, None, 3]), STOP),
        (chunk(content={"type": "text", "text": "Hello"}), STOP),
        (HEL, chunk("end_turn", content="lo")),
        (HEL, chunk("STOP", content="lo")),
        (HEL, chunk("FINISH_REASON_STOP", content="lo")),
        (HEL, chunk({"type": "stop", "matched": 2}, content="lo")),
        (b"data: " + HEL, b"data: " + LO, b"data: " + STOP),
        (HEL.strip() + LO.strip() + STOP,),
        (HEL.strip() + LO.removeprefix(b"data: ").strip() + STOP.strip() + b"data: [DONE]\n\n",),
        (HEL, b"data: ping\n\n", b"data: [keep-alive]\n\n", LO, STOP),
        (HEL, sse({"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}}), LO, STOP),
        (HEL, sse({"code": 0, "msg": "success"}), LO, STOP),
        (HEL, chunk(content="lo", refusal=None, audio=None, function_call=None, tool_calls=None), STOP),
    ],
)
def test_a_text_is_read_in_every_form(ask, script):
    """Line ends, comments, events without data, parts, repeated text: the reply is the text, and so are its pieces."""
    pieces: list[str] = []
    with serving(HEAD, *script) as server:
        reply = ask(server, on_delta=pieces.append)

    assert reply.content == "".join(pieces) == "Hello"
    assert reply.tool_calls == ()


def test_the_halves_of_a_character_in_two_chunks_become_one():
    """A server that cuts text by UTF-16 units."""
    assert mend("hi \ud83d" + "\ude00 \ud83d") == "hi \U0001f600 \ufffd"


@pytest.mark.parametrize("head", [HEAD, JSON_HEAD])
@pytest.mark.parametrize(
    "body",
    [
        completion(content="Hello"),
        json.dumps(json.loads(completion(content="Hello")), indent=2).encode(),
        b"[\n" + completion(content="Hello") + b"]",
        completion(content=[{"type": "text", "text": "Hello"}]),
    ],
)
def test_a_whole_completion_is_read_where_a_stream_was_asked_for(ask, head, body):
    """A server that does not stream answers at once."""
    with serving(head, body) as server:
        reply = ask(server)

    assert (reply.content, reply.usage.input_tokens) == ("Hello", 3)


@pytest.mark.parametrize("rest", [b"", b"data: {broken\n\n"])
def test_a_whole_answer_is_used_if_its_stream_is_cut_afterwards(ask, rest):
    """It is paid for, and nothing of it is missing."""
    with serving(HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 9999\r\n\r\n"), HEL, LO, STOP, rest) as server:
        assert ask(server).content == "Hello"


ONE = [("add", {"n": 1})]
TWO = [("add", {"n": 1}), ("add", {"n": 2})]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # The name in each chunk, in pieces, or growing.
        ((calls(part("add", '{"n"', id="a")), calls(part("add", ": 1", id="a")), calls(part("add", "}", id="a"))), ONE),
        ((calls(part("add", '{"n"')), calls(part("add", ": 1")), calls(part("add", "}"))), ONE),
        ((calls(part("ad", "", id="a")), calls(part("d", '{"n": 1}'))), ONE),
        ((calls(part("ad", "", id="a")), calls(part("add", '{"n": 1}'))), ONE),
        # Arguments that are an object, or null.
        ((calls(part("add", {"n": 1}, id="a")),), ONE),
        ((calls(part("add", None, id="a")), calls(part(None, '{"n": 1}'))), ONE),
        ((calls(part("add", {}, id="a")), calls(part(None, '{"n": 1}'))), ONE),
        # The whole call again, at the end.
        ((calls(part("add", '{"n"', id="a")), calls(part(None, ": 1}")), calls(part("add", '{"n":1}', id="a"))), ONE),
        ((calls(part("add", '{"n"')), calls(part(None, ": 1}")), calls(part("add", '{"n": 1}'))), ONE),
        ((calls(part("add", '{"n": 1}', id="a", index=None)),) * 2, ONE),
        (
            (calls(part("add", '{"n', id="a")), calls(part("add", '{"n": 1', id="a")), calls(part("add", '{"n": 1}'))),
            ONE,
        ),
        (
            (
                calls(part("add", '{"n": 1}', id="a")),
                sse({"choices": [{"message": {"tool_calls": [part("add", '{"n": 1}', id="b")]}}]}),
            ),
            ONE,
        ),
        # Several calls with one index or none, and without ids.
        ((calls(part("add", '{"n": 1}'), part("add", '{"n": 2}')),), TWO),
        ((calls(part("add", '{"n": 1}')), calls(part("add", '{"n": 2}'))), TWO),
        ((calls(part("add", '{"n": 1}', index=None)), calls(part("add", '{"n": 2}', index=None))), TWO),
        ((calls(part("add", '{"n": 1}', id="", index=0)), calls(part("add", '{"n": 2}', id="", index=0))), TWO),
        ((calls(part("add", '{"n": 1}', index=None), part("add", '{"n": 2}', index=None)),), TWO),
        (
            (
                calls(part("add", '{"n"', id="a", index=None)),
                calls(part(None, ": 1}", index=None)),
                calls(part("add", '{"n"', id="b", index=None)),
                calls(part(None, ": 2}", index=None)),
            ),
            TWO,
        ),
        (
            (
                calls(part("add", "", id="a", index=0), part("add", "", id="b", index=1)),
                calls(part(None, '{"n": 2}', index=1)),
                calls(part(None, '{"n": 1}', index=0)),
            ),
            TWO,
        ),
        # Text around the name or the arguments.
        ((calls(part("add", json.dumps('{"n": 1}'), id="a")),), ONE),
        ((calls(part("add", '```json\n{"n": 1}\n```', id="a")),), ONE),
        ((calls(part("functions.add", '{"n": 1}', id="a")),), ONE),
        ((calls(part("functions.add:0", '{"n": 1}', id="a")),), ONE),
        ((calls(part(" add<|channel|>commentary", '{"n": 1}', id="a")),), ONE),
        ((calls(part("add", "null", id="a")),), [("add", {})]),
        # One call, or the older field, in place of a list; a call without `function`; entries that are no call.
        ((chunk(tool_calls=part("add", '{"n": 1}', id="a")),), ONE),
        ((chunk(function_call={"name": "add", "arguments": '{"n"'}), chunk(function_call={"arguments": ": 1}"})), ONE),
        ((calls({"index": 0, "id": "a", "name": "add", "arguments": {"n": 1}}),), ONE),
        ((chunk(tool_calls=[None, {}, "x", part("add", '{"n": 1}', id="a", index=1)]),), ONE),
        ((completion("tool_calls", content=None, tool_calls=[part("add", {"n": 1}), part("add", {"n": 2})]),), TWO),
        ((completion("function_call", function_call={"name": "add", "arguments": '{"n": 1}'}),), ONE),
    ],
)
def test_calls_are_read_in_every_form(ask, script, expected):
    """Each call once, with its own arguments, and an id of its own."""
    with serving(HEAD, *script, CALLS) as server:
        reply = ask(server)

    assert [(c.name, json.loads(c.arguments)) for c in reply.tool_calls] == expected
    assert len({c.id for c in reply.tool_calls} - {""}) == len(expected)


def test_arguments_that_break_off_stay_as_they_came(ask):
    """The model gets them as an error of the call."""
    with serving(HEAD, calls(part("add", '{"n": ', id="a")), chunk("length")) as server:
        reply = ask(server)

    assert reply.tool_calls == (ToolCall("a", "add", '{"n": '),)
    assert reply.finish_reason == "length"


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([{"prompt_tokens": 5.0, "completion_tokens": "2"}], (5, 0, 2)),
        ([{"prompt_tokens": None, "completion_tokens": -2}], (0, 0, 0)),
        ([{"prompt_tokens": "many", "completion_tokens": [2]}, 7, "x"], (0, 0, 0)),
        ([{"prompt_tokens": 5, "completion_tokens": n} for n in (1, 2, 3)], (5, 0, 3)),
        ([{"prompt_tokens": 5}, {"completion_tokens": 2}, {}], (5, 0, 2)),
        ([{"prompt_tokens": 1e30, "completion_tokens": 2}], (100_000_000, 0, 2)),
        ([{"input_tokens": 5, "output_tokens": 2}], (5, 0, 2)),
        ([{"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": "4"}}], (5, 4, 0)),
        ([{"prompt_tokens": 5, "prompt_tokens_details": [], "prompt_cache_hit_tokens": 4}], (5, 4, 0)),
    ],
)
def test_usage_is_read_as_numbers(ask, usages, expected):
    """Text, floats, nothing, negative numbers, and parts of it in several chunks."""
    with serving(HEAD, HEL, *(sse({"choices": [], "usage": u}) for u in usages), STOP) as server:
        used = ask(server).usage

    assert (used.input_tokens, used.cached_input_tokens, used.output_tokens) == expected


def test_the_usage_of_a_choice_counts(ask):
    """Some servers put it there."""
    with serving(HEAD, HEL, sse({"choices": [{"finish_reason": "stop", "usage": {"prompt_tokens": 5}}]})) as server:
        assert ask(server).usage.input_tokens == 5
