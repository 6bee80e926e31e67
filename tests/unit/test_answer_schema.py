"""Asking for an answer in a JSON schema, of servers that know how and of those that do not."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from tests.unit.chat_server import HELLO, KEY
from worker.domain import ChatRequest, Reply, Stop
from worker.errors import ArgumentInvalid, ModelError, ModelRefused
from worker.models import schema_forms
from worker.models.openai_chat import OpenAIChat

SCHEMA = {"type": "object"}
FORMED = ChatRequest(HELLO.messages, answer_schema=SCHEMA, describes_answer=True)
BARE = ChatRequest(HELLO.messages, answer_schema=SCHEMA, answer_name="letter")  # its messages do not say what to answer
_names = itertools.count(1)


@pytest.fixture(scope="module")
def llmock_server() -> Iterator[LLMockServer]:
    """A Chat Completions server that refuses on command."""
    with LLMockServer() as server:
        yield server


@pytest.fixture
def provider(llmock_server: LLMockServer) -> LLMock:
    """The same server, with nothing scripted."""
    return LLMock(llmock_server).reset()


@pytest.fixture
def ask(event_loop, provider) -> Callable[..., Reply]:
    """Ask a model that nobody has asked before, or another one by its name."""
    own = f"m{next(_names)}"

    def call(request: ChatRequest = FORMED, name: str = own, **options: Any) -> Reply:
        model = OpenAIChat(id=name, api_key=KEY, base_url=provider.base_url(), **options)
        return event_loop.ask(model, request, lambda _: None, stop=Stop())

    return call


def forms(provider: LLMock) -> list[bool]:
    """Return of each request whether it asked for a schema."""
    return ["response_format" in request.body for request in provider.requests]


def test_a_schema_is_sent_where_one_is_wanted(provider, ask):
    """As the wire format has it, strict; and nothing of it with any other request."""
    ask()
    ask(HELLO)

    assert forms(provider) == [True, False]
    asked = provider.requests[0].body["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422, 501])
def test_a_server_that_refuses_a_schema_is_asked_again_without(provider, ask, status):
    """At once, and from then on without: the prompt's own words have to do. Other models are asked as before."""
    provider.fail(status).reply("once").reply("twice").reply("other")

    answers = [ask().content, ask().content, ask(name=f"other{status}").content]

    assert answers == ["once", "twice", "other"]
    assert forms(provider) == [True, False, False, True]


@pytest.mark.parametrize(
    "fault",
    [
        lambda p: p.reply(""),
        lambda p: p.truncate(after_chunks=1).reply("is lost"),
        lambda p: p.corrupt(after_chunks=1).reply("is lost"),
        lambda p: p.fail(500),
    ],
)
def test_an_answer_that_fails_maybe_because_of_a_schema_is_asked_for_without(provider, ask, fault):
    """Some servers accept a schema, and then send nothing, an error, or no Chat Completions chunk.

    An outage looks the same: the next request has the schema again.
    """
    fault(provider)
    provider.reply("once").reply("twice")

    assert [ask().content, ask().content] == ["once", "twice"]
    assert forms(provider) == [True, False, True]


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_what_has_nothing_to_do_with_a_schema_is_not_asked_again(provider, ask, status):
    """A wrong key, a limit, an outage: one request, and the next one has the schema."""
    provider.fail(status)

    with pytest.raises(ModelError):
        ask()
    ask()

    assert forms(provider) == [True, True]


def test_a_request_that_is_refused_either_way_says_nothing_about_schemas(provider, ask):
    """A context that is too long is refused with 400 too; the next request is asked with the schema again."""
    provider.context_overflow(times=2)

    with pytest.raises(ModelRefused):
        ask()
    ask()

    assert forms(provider) == [True, False, True]


def test_a_refusal_without_a_schema_is_not_asked_again(provider, ask):
    """There is nothing to leave out."""
    provider.fail(400)

    with pytest.raises(ModelRefused):
        ask(HELLO)

    assert forms(provider) == [False]


def test_a_schema_goes_before_what_a_model_is_always_asked_for(provider, event_loop):
    """A team's model may answer in JSON always; its summaries have a schema of their own."""
    always = {"response_format": {"type": "json_object"}, "temperature": 0}
    model = OpenAIChat(id="always", api_key=KEY, base_url=provider.base_url(), request_params=always)

    for request in (FORMED, HELLO):
        event_loop.ask(model, request, lambda _: None, stop=Stop())

    assert [r.body["response_format"]["type"] for r in provider.requests] == ["json_schema", "json_object"]
    assert [r.body["temperature"] for r in provider.requests] == [0, 0]


def kinds(provider: LLMock) -> list[str | None]:
    """Return of each request in which form it asked for a schema; None: in words at most."""
    formats = [request.body.get("response_format") for request in provider.requests]
    return [format and format["type"] for format in formats]


@pytest.mark.parametrize(
    ("refusals", "asked"), [(1, ["json_schema", "json_object"]), (2, ["json_schema", "json_object", None])]
)
def test_a_server_without_schemas_is_told_in_words(provider, ask, refusals, asked):
    """For any JSON object, then only in words; the schema stands in both. It is remembered for an hour."""
    provider.fail(400, times=refusals)
    provider.reply("{}").reply("{}").reply("{}")

    ask(BARE)
    ask(BARE)
    assert kinds(provider) == [*asked, asked[-1]]
    last = provider.requests[-1].body["messages"][-1]
    assert last["role"] == "system"
    assert '{"type": "object"}' in last["content"]
    for known in list(schema_forms._refused):
        schema_forms._refused[known] -= schema_forms.REMEMBERED_S + 1
    ask(BARE)
    assert kinds(provider)[-1] == "json_schema"


@pytest.mark.parametrize(
    ("form", "asked"), [("json_schema", "json_schema"), ("json_object", "json_object"), ("prompt", None)]
)
def test_a_form_can_be_chosen(provider, ask, form, asked):
    """Then it is the only one; its name and whether it is strict are sent with a schema."""
    ask(BARE, structured_output=form)

    assert kinds(provider) == [asked]
    if form == "json_schema":
        assert provider.requests[0].body["response_format"]["json_schema"]["name"] == "letter"
    with pytest.raises(ArgumentInvalid, match="structured_output is 'xml'; expected one of 'auto'"):
        OpenAIChat("m", structured_output="xml")


def test_a_schema_that_is_not_strict_is_not_said_to_be(provider, ask):
    """A provider would refuse it."""
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    ask(ChatRequest(HELLO.messages, answer_schema=loose))

    assert provider.requests[0].body["response_format"]["json_schema"]["strict"] is False
