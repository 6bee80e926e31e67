"""Forms that a model asks for, known by its name or learned from a refusal."""

import pytest

from tests.support.strict_servers import Body, Refused, expect, mistral, strict_server
from worker.domain import ChatMessage, ChatRequest, Stop, ToolCall, ToolDescription
from worker.errors import ModelRefused
from worker.models import forms
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
    return ids_of(OpenAIChat(model)._body(asking(*ids), forms.of_model(model, base_url)))


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
    [taken] = sent_ids("mistral", "call_1")

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
        "Value 'functions.note:0' at 'toolUse.toolUseId' must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
        "messages.1.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 32",
    ],
)
def test_a_refusal_of_ids_is_known_by_its_words(words: str) -> None:
    """As the provider and the chat templates word it."""
    form = forms.of_refusal(words, asking("call_1").messages, ())

    assert form is forms.FORMS[0]
    assert forms.of_refusal(words, asking("call_1").messages, (form,)) is None


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


def texts_and_calls(body: Body) -> list[tuple[str, str | None, int]]:
    """Role, content and number of calls of its messages."""
    return [(m["role"], m["content"], len(m.get("tool_calls", ()))) for m in body["messages"]]


def bare(body: Body) -> None:
    """As older models of Mistral refuse."""
    both = any(m["content"] and m.get("tool_calls") for m in body["messages"])
    expect(not both, "Assistant message must have either content or tool_calls, but not both.")


def single(body: Body) -> None:
    """As the templates of Llama 3 refuse."""
    expect(
        all(calls < 2 for _, _, calls in texts_and_calls(body)), "This model only supports single tool-calls at once!"
    )


def test_a_server_can_refuse_one_form_after_another(event_loop) -> None:
    """Texts beside calls, two calls in a reply, and ids: each is learned, and no call loses its result."""
    calls = (ToolCall("call_1", "note", "{}"), ToolCall("call_2", "note", "{}"))
    results = tuple(ChatMessage("tool", f"result {n}", tool_call_id=f"call_{n}") for n in (1, 2))
    messages = (ChatMessage("user", "hello"), ChatMessage("assistant", "One moment.", calls), *results)
    with strict_server("once", "twice", checks=[bare, single, mistral]) as server:
        model = OpenAIChat("own-name", "k", server.base_url)

        for _ in range(2):
            event_loop.ask(model, ChatRequest(messages, TOOLS), lambda _: None, stop=Stop())

    assert len(server.refused) == 3, server.refused
    assert len(server.bodies) == 5
    assert texts_and_calls(server.bodies[-1]) == [
        ("user", "hello", 0),
        ("assistant", None, 1),
        ("tool", "result 1", 0),
        ("assistant", None, 1),
        ("tool", "result 2", 0),
    ]
    assert len(set(ids_of(server.bodies[-1]))) == 2


NO_TEXT = "body.messages.1.assistant.content: Input should be a valid string"
NO_SYSTEM = ["System role not supported", "Developer instruction is not enabled for models/gemma-3-27b-it"]


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("words", NO_SYSTEM)
def test_a_server_without_system_messages_gets_the_text_from_the_user(event_loop, words: str, status: int) -> None:
    """At the beginning of the first message, at once and from then on."""

    def without(body: Body) -> None:
        if body["messages"][0]["role"] == "system":
            raise Refused(words, status)

    messages = (ChatMessage("system", "Be kind."), ChatMessage("user", "hello"))
    with strict_server("once", "twice", checks=[without]) as server:
        model = OpenAIChat("m", "k", server.base_url)
        for _ in range(2):
            event_loop.ask(model, ChatRequest(messages), lambda _: None, stop=Stop())

    assert [texts_and_calls(body) for body in server.bodies[1:]] == [[("user", "Be kind.\n\nhello", 0)]] * 2


def test_a_server_that_takes_no_null_gets_a_text_beside_calls(event_loop) -> None:
    """A space, which says nothing."""

    def with_text(body: Body) -> None:
        expect(all(isinstance(m["content"], str) for m in body["messages"]), NO_TEXT)

    with strict_server("ok", checks=[with_text]) as server:
        event_loop.ask(OpenAIChat("m", "k", server.base_url), asking("call_1"), lambda _: None, stop=Stop())

    assert [body["messages"][1]["content"] for body in server.bodies] == [None, " "]


def test_a_tool_without_a_description_is_described_by_its_name() -> None:
    """Some servers refuse an empty description."""
    [described] = OpenAIChat("m")._body(asking("c"), ())["tools"]

    assert described["function"]["description"] == "note"
