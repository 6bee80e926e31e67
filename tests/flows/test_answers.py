"""What becomes of a run when its model adds fields to a reply, sends half an answer, nothing, or nothing in time."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from tests.unit.chat_server import HEAD, KEY, WAIT_S, Server, chunk, serving
from tests.unit.test_odd_answers import calls, part
from worker import Agent, OpenAIChat, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain.event import MESSAGE_DELTA, MESSAGE_RESTARTED, RUN_COMPLETED
from worker.errors import ModelSilent, RunFailed
from worker.loop.tools import CUT_OFF

STOP, BLANK = chunk("stop"), (HEAD, chunk("stop", content=" \n"))
ANSWER = (HEAD, chunk("stop", content="noon"))
SIGNATURE = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
THOUGHT = (
    HEAD,
    chunk(reasoning_content="Look at ", reasoning_details=[{"index": 0, "type": "text", "text": "Look at "}]),
    chunk(reasoning_content="the clock.", reasoning_details=[{"index": 0, "type": "text", "text": "the clock."}]),
    calls({**part("now", "{}", id="a"), "extra_content": SIGNATURE}),
    chunk("tool_calls"),
)


@tool
def now() -> str:
    """The time."""
    return "12:00"


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    """A database of a script."""
    opened = Db(database_url)
    yield opened
    opened.close()


def model(server: Server, id: str = "m") -> OpenAIChat:
    return OpenAIChat(id, KEY, server.base_url)


def replies_sent(server: Server) -> list[dict[str, Any]]:
    """The model's replies in the next request that the server got."""
    return [m for m in server.asked.get(timeout=WAIT_S)["messages"] if m["role"] == "assistant"]


def test_what_a_provider_adds_goes_back_with_the_message_and_the_call(db: Db) -> None:
    """In the same run, and in the next one; another model, and another address, get the format alone."""
    options: Any = {"id": "t", "tools": [now], "db": db, "add_history_to_context": True}
    added = {
        "reasoning_content": "Look at the clock.",
        "reasoning_details": [{"index": 0, "type": "text", "text": "Look at the clock."}],
    }
    with serving(*ANSWER, turns=[THOUGHT]) as server, serving(*ANSWER) as elsewhere:
        Team(model=model(server), **options).run("time?", session_id="s")
        Team(model=model(server), **options).run("again?", session_id="s")
        Team(model=model(server, "other"), **options).run("and now?", session_id="s")
        Team(model=model(elsewhere), **options).run("there?", session_id="s")

        assert replies_sent(server) == []
        for _run in ("the same", "the next"):
            first = replies_sent(server)[0]
            assert {name: first[name] for name in added} == added
            assert first["tool_calls"][0]["extra_content"] == SIGNATURE
        for other in (server, elsewhere):
            first = replies_sent(other)[0]
            assert set(first) == {"role", "content", "tool_calls"}
            assert set(first["tool_calls"][0]) == {"id", "type", "function"}


def test_a_server_that_refuses_its_own_fields_is_asked_without_them(db: Db) -> None:
    """Some add a field to a reply, and refuse it in a request. That is learned once."""
    body = b'{"error": {"message": "property \'reasoning_content\' is unsupported"}}'
    refused = b"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with serving(*ANSWER, turns=[THOUGHT, (refused,)]) as server:
        team = Team(id="t", tools=[now], db=db, add_history_to_context=True, model=model(server, "picky"))
        team.run("time?", session_id="s")
        team.run("again?", session_id="s")

        fields = [[set(reply) for reply in replies_sent(server)[:1]] for _ in range(4)]

    assert "reasoning_content" in fields[1][0]
    assert [of_request[0] for of_request in fields[2:]] == [{"role", "content", "tool_calls"}] * 2


def test_what_a_provider_adds_is_in_no_message_or_event(db: Db) -> None:
    """It is not the user's, nor the team's."""
    with serving(*ANSWER, turns=[THOUGHT]) as server:
        team = Team(id="t", tools=[now], db=db, model=model(server))
        events = list(team.run("time?", session_id="s", stream=True))

    assert "clock" not in str([e.data for e in events])
    assert "clock" not in str([asdict(m) for m in team.get_messages_for_session("s")])


def test_an_extra_that_is_too_large_is_dropped(db: Db) -> None:
    """The run goes on, as if the provider had added nothing."""
    large = (HEAD, chunk(reasoning_content="x" * 1_100_000), calls(part("now", "{}", id="a")), chunk("tool_calls"))
    with serving(*ANSWER, turns=[large]) as server:
        assert Team(id="t", tools=[now], db=db, model=model(server)).run("time?").content == "noon"
        replies_sent(server)

        assert set(replies_sent(server)[0]) == {"role", "content", "tool_calls"}


def test_a_limit_of_output_tokens_is_told_by_the_run(db: Db) -> None:
    """In its output, its row and its last event."""
    with serving(HEAD, chunk("length", content="The answer is for")) as server:
        team = Team(id="t", db=db, model=model(server))
        output = team.run("hi")
        last = list(team.run("hi", stream=True))[-1]

    assert (output.content, output.finish_reason) == ("The answer is for", "length")
    assert (last.type, last.data["finish_reason"]) == (RUN_COMPLETED.name, "length")


def test_a_call_that_was_cut_off_is_not_made(db: Db) -> None:
    """Not even with empty arguments; a call that came whole is made."""
    made: list[str] = []

    @tool
    def save(text: str = "nothing") -> str:
        """Save a text."""
        made.append(text)
        return "saved"

    cut = (
        HEAD,
        calls(part("save", '{"text": "a"}', id="a"), part("save", '{"text": "b', id="b", index=1)),
        calls(part("save", "", id="c", index=2)),
        chunk("length"),
    )
    with serving(*ANSWER, turns=[cut]) as server:
        output = Team(id="t", tools=[save], db=db, model=model(server)).run("save a, b and c")

    assert made == ["a"]
    assert sorted(m.content for m in output.messages if m.role == "tool") == [CUT_OFF, CUT_OFF, "saved"]
    assert output.finish_reason == "stop"


def test_a_member_whose_answer_was_cut_off_says_so(db: Db) -> None:
    """Its leader reads it; where its answer is the run's, the run has the reason."""
    with serving(HEAD, chunk("length", content="Half")) as server:
        member = Agent(id="m", model=model(server))
        asked = calls(part("delegate_task_to_member", '{"member_id": "m", "task": "go"}', id="a"))
        with serving(*ANSWER, turns=[(HEAD, asked, chunk("tool_calls"))]) as leader:
            led = Team(id="led", members=[member], db=db, model=model(leader)).run("hi")
        with serving(*ANSWER, turns=[(HEAD, asked, chunk("tool_calls"))]) as router:
            routed = Team(id="routed", members=[member], mode="route", db=db, model=model(router)).run("hi")

    assert next(m.content for m in led.messages if m.role == "tool").startswith("Half\n\n(The answer breaks off")
    assert (led.content, led.finish_reason) == ("noon", "stop")
    assert (routed.content, routed.finish_reason) == ("Half", "length")


def test_an_aborted_answer_is_not_used(db: Db) -> None:
    """Its call is not made, and the model is asked again."""
    paid: list[int] = []

    @tool
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    aborted = (HEAD, calls(part("pay", '{"amount": 100}', id="a")), chunk("abort"))
    with serving(*ANSWER, turns=[aborted]) as server:
        output = Team(id="t", tools=[pay], db=db, model=model(server)).run("pay")

    assert (output.content, paid, len(output.messages)) == ("noon", [], 2)


def test_a_blank_reply_is_asked_for_again_twice(db: Db) -> None:
    """At once, and watchers discard what they saw of it."""
    with serving(*ANSWER, turns=[BLANK, BLANK]) as server:
        events = list(Team(id="t", db=db, model=model(server)).run("hi", stream=True))
    with serving(*BLANK) as server, pytest.raises(RunFailed, match="neither text nor a tool call"):
        Team(id="t2", db=db, model=model(server)).run("hi")

    assert server.asked.qsize() == 3
    kinds = [e.type for e in events if e.type in (MESSAGE_DELTA.name, MESSAGE_RESTARTED.name)]
    assert kinds == [MESSAGE_DELTA.name, MESSAGE_RESTARTED.name] * 2 + [MESSAGE_DELTA.name]


def test_an_answer_that_cannot_be_read_twice_is_final(db: Db) -> None:
    """Asking a third time would be paid for the same."""
    broken = (HEAD, chunk(content="hi"), b"data: {broken\n\n")
    with serving(*broken) as server, pytest.raises(RunFailed, match="cannot be read"):
        Team(id="t", db=db, model=model(server)).run("hi")

    assert server.asked.qsize() == 2


def test_each_retry_of_a_silent_model_waits_longer(db: Db) -> None:
    """A model that needs 90 s for its first word answers at the second try."""
    scripted = ScriptedModel([ModelSilent(model="m", silence_s=60), "here"])

    assert Team(id="t", db=db, model=scripted).run("hi").content == "here"

    assert [request.silence_s for request in scripted.requests] == [60, 120]
