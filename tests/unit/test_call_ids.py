"""Ids of tool calls in the form that a model asks for, known by its name or learned from a refusal."""

import pytest

from tests.support.strict_servers import Body, Refused, mistral, strict_server
from worker.domain import ChatMessage, ChatRequest, Stop, ToolCall, ToolDescription
from worker.errors import ModelRefused
from worker.models import call_ids
from worker.models.openai_chat import OpenAIChat

TOOLS = (ToolDescription("note", "", {"type": "object"}),)


def asking(*ids: str) -> ChatRequest:
    """A request whose reply has calls with these ids."""
    calls = tuple(ToolCall(id, "note", "{}") for id in ids)
    results = (ChatMessage("tool", "noted", tool_call_id=id) for id in ids)
    return ChatRequest((ChatMessage("user", "hello"), ChatMessage("assistant", "", calls), *results), TOOLS)


def ids_of(body: Body) -> list[str]:
    """The ids of its calls; those of its results are the same."""
    calls = [call["id"] for m in body["messages"] for call in m.get("tool_calls", ())]
    assert [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"] == calls
    return calls


def sent_ids(model: str, *ids: str, base_url: str | None = None) -> list[str]:
    """The ids that this model is sent."""
    return ids_of(OpenAIChat(model)._body(asking(*ids), call_ids.form_of(model, base_url)))


@pytest.mark.parametrize("model", ["gpt-5-mini", "claude-sonnet", "central-1"])
def test_most_models_get_the_ids_as_they_are(model: str) -> None:
    """Those of any provider."""
    assert sent_ids(model, "call_1", "toolu_01A") == ["call_1", "toolu_01A"]


@pytest.mark.parametrize("model", ["mistral-large-latest", "mistralai/Ministral-8B", "open-mixtral-8x22b", "codestral"])
def test_models_of_mistral_get_nine_letters_or_digits(model: str) -> None:
    """Their own ids stay, others get the same new id in every request."""
    first = sent_ids(model, "D681PevKs", "call_1", "call_2")

    assert first == sent_ids(model, "D681PevKs", "call_1", "call_2")
    assert first[0] == "D681PevKs"
    assert all(len(id) == 9 and id.isalnum() for id in first)
    assert len(set(first)) == 3


def test_a_server_can_tell_the_family_too() -> None:
    """A model with a name of its own, at the provider's address."""
    assert len(sent_ids("ft:mine", "call_1", base_url="https://api.mistral.ai/v1")[0]) == 9


def test_models_of_moonshot_get_ids_that_count_their_calls() -> None:
    """As they were trained."""
    assert sent_ids("moonshotai/Kimi-K2", "call_7", "x") == ["functions.note:0", "functions.note:1"]


def test_an_id_that_is_taken_is_not_made_again() -> None:
    """Two ids never become one."""
    taken = call_ids.nine_letters(ToolCall("call_1", "note", "{}"), set())

    assert len(set(sent_ids("mistral", taken, "call_1"))) == 2


def test_a_server_that_refuses_ids_is_asked_again_with_short_ones(event_loop) -> None:
    """At once, and from then on: a model whose name says nothing, on a server of one's own."""
    with strict_server("once", "twice", checks=[mistral]) as server:
        model = OpenAIChat("own-name", "k", server.base_url)

        answers = [event_loop.ask(model, asking("call_1"), lambda _: None, stop=Stop()).content for _ in "ab"]

    assert answers == ["once", "twice"]
    assert [len(ids_of(body)[0]) for body in server.bodies] == [6, 9, 9]


@pytest.mark.parametrize(
    "words",
    [
        "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
        "Tool call IDs should be alphanumeric strings with length 9!",
    ],
)
def test_a_refusal_of_ids_is_known_by_its_words(words: str) -> None:
    """As the provider and the chat templates word it."""
    assert call_ids.is_refused(words)


@pytest.mark.parametrize("words", ["tool_call_id call_1 has no tool_calls before it", "context length is 9000 tokens"])
def test_another_refusal_is_not_asked_again(event_loop, words: str) -> None:
    """Short ids would not help."""

    def refuse(_body: Body) -> None:
        raise Refused(words)

    with strict_server(checks=[refuse]) as server:
        model = OpenAIChat("own-name", "k", server.base_url)
        with pytest.raises(ModelRefused):
            event_loop.ask(model, asking("call_1"), lambda _: None, stop=Stop())

    assert len(server.bodies) == 1
