"""What `OpenAIChat` makes of a server's answers, good and bad, over a real socket; and how `EventLoop` ends a call."""

import json
from collections.abc import Callable, Iterator

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply as ScriptedReply
from llmock.testing import LLMockServer

from tests.unit.chat_server import HEAD, HELLO, KEY, UNTIL_LEFT, WAIT_S, Server, chunk, failure, serving, sse
from worker.domain import ChatMessage, ChatRequest, Reply, Stop, ToolCall, ToolDescription
from worker.errors import (
    ModelAnswerInvalid,
    ModelContextExceeded,
    ModelEmptyReply,
    ModelError,
    ModelRateLimited,
    ModelRefused,
    ModelSilent,
    ModelStreamBroken,
    ModelUnavailable,
)
from worker.models.event_loop import EventLoop
from worker.models.openai_chat import OpenAIChat
from worker.queue.embedded import free_port


@pytest.fixture(scope="module")
def llmock_server() -> Iterator[LLMockServer]:
    """A Chat Completions server that misbehaves on command."""
    with LLMockServer() as server:
        yield server


@pytest.fixture
def provider(llmock_server: LLMockServer) -> LLMock:
    """The same server, with nothing scripted."""
    return LLMock(llmock_server).reset()


@pytest.fixture
def ask(event_loop: EventLoop) -> Callable[..., Reply]:
    """Ask a server once, and return its reply."""

    def call(server: LLMock | Server | str, request: ChatRequest = HELLO, deltas: list[str] | None = None) -> Reply:
        base_url = server if isinstance(server, str) else server.base_url
        model = OpenAIChat(id="m", api_key=KEY, base_url=base_url() if callable(base_url) else base_url)
        return event_loop.ask(model, request, ([] if deltas is None else deltas).append, stop=Stop())

    return call


def test_a_reply_is_its_text_its_pieces_and_its_usage(provider, ask):
    """The text arrives in pieces that join to the reply, and the tokens of the call are counted."""
    provider.reply("The capital of France is Paris.")
    deltas: list[str] = []

    reply = ask(provider, deltas=deltas)

    assert reply.content == "".join(deltas) == "The capital of France is Paris."
    assert len(deltas) > 1
    assert reply.usage.model_calls == 1
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0


def test_cached_tokens_are_counted_and_missing_details_are_zero(ask):
    """`cached_input_tokens` is what the server names; a server without details or usage counts the call alone."""
    counted = {"prompt_tokens": 9, "completion_tokens": 2}
    detailed = {**counted, "prompt_tokens_details": {"cached_tokens": 4}}
    used = []

    for usage in (detailed, {**counted, "prompt_tokens_details": None}, {}, None):
        with serving(HEAD, chunk(content="hi", finish="stop"), sse({"choices": [], "usage": usage})) as server:
            used.append(ask(server).usage)

    assert [(u.model_calls, u.input_tokens, u.cached_input_tokens, u.output_tokens) for u in used] == [
        (1, 9, 4, 2),
        (1, 9, 0, 2),
        (1, 0, 0, 0),
        (1, 0, 0, 0),
    ]


def test_a_reply_can_call_tools_with_arguments_in_fragments(provider, ask):
    """Fragments of a call's arguments are joined; text beside the call is kept."""
    provider.call_tool("look_up", {"city": "Paris", "country": "France"}, text="Let me see.")

    reply = ask(provider)

    assert reply.content == "Let me see."
    assert [(c.name, json.loads(c.arguments)) for c in reply.tool_calls] == [
        ("look_up", {"city": "Paris", "country": "France"})
    ]
    assert reply.tool_calls[0].id


def test_the_whole_context_and_the_tools_are_sent(ask):
    """Messages, tool calls, their results and the tools' schemas go out in the Chat Completions wire format."""
    call = ToolCall("call_1", "look_up", '{"a": 1}')
    messages = (ChatMessage("assistant", "", (call,)), ChatMessage("tool", "found", tool_call_id="call_1"))
    tools = (ToolDescription("look_up", "Look it up.", {"type": "object"}),)
    with serving(HEAD, chunk(content="hi", finish="stop")) as server:
        ask(server, ChatRequest(messages, tools))

        sent = server.asked.get(timeout=WAIT_S)

    sent_call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"a": 1}'}}
    assert sent["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [sent_call]},
        {"role": "tool", "content": "found", "tool_call_id": "call_1"},
    ]
    assert [t["function"]["name"] for t in sent["tools"]] == ["look_up"]
    assert sent["stream_options"] == {"include_usage": True}


def test_what_a_model_asks_for_besides_goes_out_with_every_call(event_loop):
    """`request_params` are part of the body, those that the package names `extra_…` of headers, query and body."""
    extra = {"extra_headers": {"x-tier": "gold"}, "extra_query": {"region": "eu"}, "extra_body": {"top_k": 3}}
    with serving(HEAD, chunk(content="hi", finish="stop")) as server:
        model = OpenAIChat("m", KEY, server.base_url, {"temperature": 0.2, **extra})
        event_loop.ask(model, HELLO, [].append, stop=Stop())

        head, sent = server.heads.get(timeout=WAIT_S), server.asked.get(timeout=WAIT_S)

    assert head.startswith("POST /v1/chat/completions?region=eu ")
    assert "x-tier: gold" in head.lower()
    assert f"authorization: bearer {KEY}" in head.lower()
    assert (sent["temperature"], sent["top_k"], sent["stream"]) == (0.2, 3, True)
    assert not sent.keys() & extra.keys()


@pytest.mark.parametrize("ids", [("", ""), ("same", "same"), (None, "same", "same"), ("call_1_1", "")])
def test_ids_of_tool_calls_are_unique_whatever_the_server_sends(ask, ids):
    """A server that sends no id, or one id twice, still gets each result matched to its call."""
    calls = [
        {"index": n, "id": call_id, "function": {"name": "add", "arguments": f'{{"n": {n}}}'}}
        for n, call_id in enumerate(ids)
    ]

    with serving(HEAD, chunk(tool_calls=calls, finish="tool_calls")) as server:
        reply = ask(server)

    assert len({c.id for c in reply.tool_calls} - {""}) == len(ids)
    assert [json.loads(c.arguments)["n"] for c in reply.tool_calls] == list(range(len(ids)))


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_parallel_calls_are_kept_apart_when_the_server_gives_them_one_index(ask, index):
    """Gemini's endpoint sends index 0 with every call; a fragment without an id belongs to the call before it."""
    first = [{**index, "id": "a", "function": {"name": "add", "arguments": ""}}]
    more = [{**index, "function": {"arguments": '{"n": 1}'}}]
    second = [{**index, "id": "b", "function": {"name": "sub", "arguments": '{"n": 2}'}}]

    with serving(HEAD, *(chunk(tool_calls=part) for part in (first, more, second)), chunk("tool_calls")) as server:
        reply = ask(server)

    assert reply.tool_calls == (ToolCall("a", "add", '{"n": 1}'), ToolCall("b", "sub", '{"n": 2}'))


def test_text_that_nothing_can_store_is_mended(ask):
    """A lone surrogate or NUL of a model does not reach the database."""
    with serving(HEAD, chunk(content="a\ud800b\x00", finish="stop")) as server:
        reply = ask(server)

    assert reply.content == "a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("Retry-After: 7", 7.0),
        ("retry-after-ms: 250", 0.25),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Retry-After: soon", None),
        ("Retry-After: inf", 86_400.0),
    ],
)
def test_a_rate_limit_can_be_retried_when_the_server_says(ask, header, wait_s):
    """429 is asked again after the time that a header names in seconds, milliseconds or as a date: a day at most."""
    with serving(failure("429 Too Many", {}, header)) as server, pytest.raises(ModelRateLimited) as raised:
        ask(server)

    assert raised.value.retry
    assert raised.value.retry_after_s == wait_s


def _broken(name: str) -> Callable[[LLMock], LLMock]:
    return lambda provider: getattr(provider, name)(after_chunks=2)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda p: p.rate_limit(retry_after=3), ModelRateLimited),
        (lambda p: p.fail(500), ModelUnavailable),
        (lambda p: p.fail(503), ModelUnavailable),
        (lambda p: p.fail(408), ModelUnavailable),
        (_broken("disconnect"), ModelUnavailable),
        (_broken("truncate"), ModelStreamBroken),
        (_broken("corrupt"), ModelAnswerInvalid),
        (lambda p: p.fail(429, code="insufficient_quota"), ModelRefused),
        (lambda p: p.fail(400), ModelRefused),
        (lambda p: p.fail(404), ModelRefused),
        (lambda p: p.context_overflow(), ModelContextExceeded),
        (lambda p: p.reply(""), ModelEmptyReply),
        (lambda p: p.reply(" \n "), ModelEmptyReply),
        (lambda p: p.add(ScriptedReply("no", finish_reason="content_filter")), ModelRefused),
    ],
)
def test_each_fault_is_told_apart_by_whether_asking_again_helps(provider, ask, fault, expected):
    """A server's fault becomes one of our errors, after one request: retries belong to the run."""
    fault(provider)

    with pytest.raises(ModelError) as raised:
        ask(provider)

    assert type(raised.value) is expected
    final = (ModelRefused, ModelContextExceeded, ModelAnswerInvalid, ModelEmptyReply)
    assert raised.value.retry is (expected not in final)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_repeated_in_the_message(provider, ask, status):
    """Providers quote a wrong key in their answer; our error does not."""
    provider.fail(status, message=f"Incorrect API key provided: {KEY}")

    with pytest.raises(ModelRefused, match="OPENAI_API_KEY") as raised:
        ask(provider)

    assert not raised.value.retry
    assert KEY not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("key", [None, "ключ"])
def test_a_missing_or_unusable_key_is_refused_before_anything_is_sent(event_loop, key):
    """The error names the setting, and asking again is pointless."""
    model = OpenAIChat(id="m", api_key=key, base_url="http://127.0.0.1:1/v1")

    with pytest.raises(ModelRefused, match="OPENAI_API_KEY"):
        event_loop.ask(model, HELLO, print, stop=Stop())


@pytest.mark.parametrize(
    "said",
    [
        sse(["no", "chunk"]),
        sse("no chunk"),
        sse(None),
        sse({"choices": None}),
        sse({"choices": [{"index": 0}]}),
        b"",
        b"<html>Welcome</html>",
    ],
)
def test_what_is_no_stream_of_chunks_is_a_broken_stream(ask, said):
    """A stream that ends without a finish reason, whatever it has in its place, can be asked again."""
    with serving(HEAD, chunk(content="hi"), said) as server, pytest.raises(ModelStreamBroken) as raised:
        ask(server)

    assert raised.value.retry


@pytest.mark.parametrize("script", [(), (HEAD,), (HEAD, chunk(content="so far"))])
def test_a_server_that_falls_silent_is_left(ask, script):
    """No answer, no stream and a stalled stream are all silence; the connection is closed, and again may help."""
    with serving(*script, UNTIL_LEFT) as server:
        with pytest.raises(ModelSilent, match=r"sent nothing for 0\.3 s") as raised:
            ask(server, ChatRequest(HELLO.messages, silence_s=0.3))

        assert server.left.wait(WAIT_S)

    assert raised.value.retry


def test_a_refused_connection_can_be_tried_again(ask):
    """A server that is not there is unavailable, for now. Its address is named, without a login or a path."""
    port = free_port()
    with pytest.raises(ModelUnavailable) as raised:
        ask(f"http://ada:hunter2@127.0.0.1:{port}/v1")

    assert raised.value.retry
    assert f"the connection to http://127.0.0.1:{port} failed or was cut" in raised.value.message
    assert "hunter2" not in raised.value.message
