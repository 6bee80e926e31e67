"""The loop of one run: what it asks, which calls it makes, where it goes on, and how it stops."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.chat_server import WAIT_S
from tests.unit.list_journal import INPUT, ListJournal, message
from worker.clock import now
from worker.domain import Draft, Event, Message, Reason, Role, Stop, Stopped, Usage, open_calls
from worker.errors import LeaseLost, LimitReached, ModelUnavailable
from worker.loop.conversation import Conversation, History
from worker.loop.definition import Limits
from worker.loop.loop import converse
from worker.loop.run_context import RunContext
from worker.loop.tools import OUTCOME_UNKNOWN, tool
from worker.loop.unanswered import unanswered
from worker.loop.user_loop import UserLoop
from worker.models.event_loop import EventLoop
from worker.models.scripted import Calls, ScriptedModel
from worker.team import Team


@pytest.fixture
def run(event_loop: EventLoop) -> Callable[..., Draft]:
    """Converse with a scripted model, which must use its whole script."""

    def converse_with(
        model: ScriptedModel,
        journal: ListJournal,
        *tools: Any,
        limits: Limits = Limits(turns=20, tool_calls=100),  # noqa: B008 - frozen
        stop: Stop | None = None,
        history: Sequence[Message] = (),
    ) -> Draft:
        team = Team(id="team", instructions=["Be kind.", "Be brief."], tools=tools)
        ids = {"run_id": "run", "session_id": "session", "user_id": "user", "created_at": now()}
        past = History(tuple(history))
        parts = (team.definition, model, limits, past, journal, journal, event_loop.ask, stop or Stop())
        try:
            return converse(Conversation(*parts, **ids, silence_s=5.0, coroutines=UserLoop()))
        finally:
            model.check_finished()

    return converse_with


def noting() -> tuple[Any, list[str]]:
    """A tool `note`, and the list that it fills."""
    noted: list[str] = []

    @tool
    def note(text: str) -> str:
        """Note a text."""
        noted.append(text)
        return f"noted {text}"

    return note, noted


def test_an_answer_is_returned_and_not_yet_written(run):
    """The leader's answer belongs into the transaction that ends the run; its pieces were told under one id."""
    journal = ListJournal()
    model = ScriptedModel(["Good day"])

    answer = run(model, journal, history=[message(0, Role.USER, "before")])

    assert (answer.role, answer.author, answer.content) == (Role.ASSISTANT, "team", "Good day")
    assert answer.usage.model_calls == 1
    assert journal.log == [INPUT]
    assert [(m.role, m.content) for m in model.requests[0].messages] == [
        ("system", "Be kind.\nBe brief."),
        ("user", "before\n\nhello"),
    ]
    about = {"message_id": "1", "author": "team", "delegation": None}
    assert journal.published == [Event("message.delta", {**about, "delta": delta}) for delta in ("Good", " day")]


def test_tools_of_one_reply_run_in_parallel(run):
    """Three calls meet at a barrier that none could pass alone; the model is shown all three results."""
    together = threading.Barrier(3)

    @tool
    def meet(n: int) -> str:
        """Meet the others."""
        together.wait(WAIT_S)
        return f"met {n}"

    journal = ListJournal()
    model = ScriptedModel([Calls(*(("meet", {"n": n}) for n in range(3)), content="One moment."), "done"])

    run(model, journal, meet)

    assert sorted(journal.results.values()) == ["met 0", "met 1", "met 2"]
    first, second = (request.messages for request in model.requests)
    assert second[: len(first)] == first
    assert second[len(first)].content == "One moment."
    assert sorted(m.content for m in second[len(first) + 1 :]) == ["met 0", "met 1", "met 2"]
    published = [event.type for event in journal.published if event.type.startswith("tool_call")]
    assert sorted(published) == ["tool_call.completed"] * 3 + ["tool_call.started"] * 3


def test_calls_that_cannot_be_made_become_results_that_the_model_sees(run):
    """An unknown tool and arguments that are not JSON end no run; the model reads what is wrong."""
    note, noted = noting()
    journal = ListJournal()
    model = ScriptedModel([Calls(("nope", {}), ("note", "{not json")), "sorry"])

    assert run(model, journal, note).content == "sorry"

    assert noted == []
    assert "there is no tool 'nope'. The tools are: note." in journal.results["call_1_0"]
    assert "not JSON" in journal.results["call_1_1"]
    assert all(text in model.requests[1].messages[-1].content for text in journal.results.values())


@pytest.mark.parametrize("done", [(), ("a",), ("b",), ("a", "b")])
def test_a_run_that_is_taken_over_makes_only_the_missing_calls(run, done):
    """The written reply is not asked for again, and calls with a result are not repeated."""
    note, noted = noting()
    reply = message(2, Role.ASSISTANT, "", "a", "b")
    results = [message(3 + n, Role.TOOL, f"noted {call}", result_of=call) for n, call in enumerate(done)]
    journal = ListJournal(INPUT, reply, *results)

    answer = run(ScriptedModel(["done"]), journal, note)

    assert answer.content == "done"
    assert sorted(noted) == sorted({"a", "b"} - set(done))
    assert journal.results == {"a": "noted a", "b": "noted b"}


def test_a_repeated_call_has_the_idempotency_key_of_the_first(run):
    """The key names the run, the reply's place in its session and the call's place in the reply."""
    keys: list[str] = []

    @tool
    def note(text: str, context: RunContext) -> None:
        """Note the key."""
        keys.append(context.idempotency_key)

    log = [INPUT, message(2, Role.ASSISTANT, "", "a", "b"), message(3, Role.TOOL, "", result_of="a")]
    for _ in range(2):
        run(ScriptedModel(["done"]), ListJournal(*log), note)

    assert keys == ["run:2:1", "run:2:1"]


def test_an_unsafe_call_is_not_repeated_once_its_start_was_recorded(run):
    """The call that had started gets "outcome unknown" for a result; the one that had not is recorded and made."""
    paid: list[str] = []

    @tool(repeatable=False)
    def note(text: str) -> str:
        """Pay."""
        paid.append(text)
        return "paid"

    journal = ListJournal(INPUT, message(2, Role.ASSISTANT, "", "a", "b"), started=["run:2:0"])
    model = ScriptedModel(["done"])

    run(model, journal, note)

    assert paid == ["b"]
    assert journal.results == {"a": OUTCOME_UNKNOWN, "b": "paid"}
    assert journal.started == {"run:2:0", "run:2:1"}
    assert OUTCOME_UNKNOWN in [m.content for m in model.requests[0].messages]


@pytest.mark.parametrize(
    ("limits", "used", "steps", "what"),
    [
        (Limits(turns=2), Usage(), [Calls(("note", {"text": "x"}))] * 2, "2 turns"),
        (Limits(turns=0), Usage(), [], "0 turns"),
        (Limits(tool_calls=1), Usage(), [Calls(("note", {"text": "x"}), ("note", {"text": "y"}))], "1 tool calls"),
        (Limits(tokens=10), Usage(1, 6, 0, 4), [], "10 tokens"),
    ],
)
def test_a_limit_ends_the_run_and_names_itself(run, limits, used, steps, what):
    """What is written counts; a reply with too many calls has none of them made."""
    note, noted = noting()

    with pytest.raises(LimitReached, match=f"reached its limit of {what}"):
        run(ScriptedModel(steps), ListJournal(usage=used), note, limits=limits)

    assert noted == ["x"] * (limits.turns or 0)


def test_turns_of_an_earlier_attempt_count(run):
    """A run that is taken over does not get a new allowance."""
    note, _ = noting()
    log = [INPUT, message(2, Role.ASSISTANT, "", "a"), message(3, Role.TOOL, "", result_of="a")]

    with pytest.raises(LimitReached):
        run(ScriptedModel([]), ListJournal(*log), note, limits=Limits(turns=1))


def test_a_stop_leaves_a_running_tool_behind_at_once(run):
    """The run does not wait for the tool; the tool is told that nobody does, and its result is not written."""
    started, told, release, stop = threading.Event(), threading.Event(), threading.Event(), Stop()

    @tool
    def slow(context: RunContext) -> str:
        """Take long."""
        started.set()
        if context.cancelled.wait(WAIT_S):
            told.set()
        release.wait(WAIT_S)
        return "late"

    journal = ListJournal()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, ScriptedModel([Calls(("slow", {}))]), journal, slow, stop=stop)
        assert started.wait(WAIT_S)

        stop.set(Reason.CANCELLED)

        with pytest.raises(Stopped) as raised:
            running.result(timeout=WAIT_S)
        assert told.wait(WAIT_S)
        release.set()
    assert raised.value.reason is Reason.CANCELLED
    assert journal.results == {}


def test_a_hand_over_waits_for_the_next_message_boundary(run):
    """The result of the tool that runs is written, and the model is not asked again."""
    stop = Stop()

    @tool
    def last() -> str:
        """Be the last."""
        stop.set_at_boundary()
        return "done"

    journal = ListJournal()

    with pytest.raises(Stopped) as raised:
        run(ScriptedModel([Calls(("last", {}))]), journal, last, stop=stop)

    assert raised.value.reason is Reason.HANDED_OVER
    assert list(journal.results.values()) == ["done"]


class LostJournal(ListJournal):
    """A journal of a run that another process has claimed when the second unsafe call is to start."""

    def record_start(self, idempotency_key: str) -> bool:
        if self.started:
            raise LeaseLost(run_id="run", fence=7)
        return super().record_start(idempotency_key)


def test_tools_are_told_when_a_lease_is_lost_while_calls_are_started(run):
    """A tool that already runs learns that nobody waits for it any more."""
    contexts: queue.SimpleQueue[RunContext] = queue.SimpleQueue()

    @tool(repeatable=False)
    def note(text: str, context: RunContext) -> None:
        """Note the context."""
        contexts.put(context)

    with pytest.raises(LeaseLost):
        run(ScriptedModel([]), LostJournal(INPUT, message(2, Role.ASSISTANT, "", "a", "b")), note)

    assert contexts.get(timeout=WAIT_S).cancelled.is_set()


def test_an_error_of_the_model_keeps_what_is_written(run):
    """The error goes to whoever runs the loop; reply and results stay for the next attempt."""
    note, _ = noting()
    journal = ListJournal()
    model = ScriptedModel([Calls(("note", {"text": "x"})), ModelUnavailable(model="m", reason="down")])

    with pytest.raises(ModelUnavailable):
        run(model, journal, note)

    assert [m.role for m in journal.log] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert journal.usage.model_calls == 1


PARALLEL_DELEGATIONS = [
    INPUT,
    message(2, Role.ASSISTANT, "", "to-x", "to-y", "own"),
    message(3, Role.ASSISTANT, "", "x1", by="x"),
    message(4, Role.ASSISTANT, "", "x1", "y2", by="y"),
    message(5, Role.TOOL, result_of="x1", by="x"),
    message(6, Role.ASSISTANT, "", "x1", "x2", by="x"),
    message(7, Role.TOOL, result_of="x1", by="y"),
    message(8, Role.TOOL, result_of="x2", by="x"),
    message(9, Role.TOOL, result_of="own"),
]


def test_open_calls_are_those_of_each_delegations_last_reply():
    """A result answers a call of its own delegation's last reply only, even where the ids are the same."""
    found = [(reply.seq, place, call.id) for reply, place, call in open_calls(PARALLEL_DELEGATIONS)]

    assert sorted(found) == [(2, 0, "to-x"), (2, 1, "to-y"), (4, 1, "y2"), (6, 0, "x1")]
    assert open_calls([INPUT]) == []


def test_each_call_that_will_not_be_made_gets_a_result():
    """A terminal run has no tool call without a result, inside its delegations too."""
    drafts = unanswered(PARALLEL_DELEGATIONS, because="the run was cancelled")

    text = "No result: the run was cancelled. Whether it took effect is not known."
    found = {(d.tool_call_id, d.delegation) for d in drafts}
    assert found == {("to-x", None), ("to-y", None), ("x1", "x"), ("y2", "y")}
    assert {(d.role, d.author, d.content) for d in drafts} == {(Role.TOOL, "note", text)}
