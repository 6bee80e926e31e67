"""A run again, with the team as it is now: it sees the same past, and its tools are served what they returned then."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from tests.support import look
from tests.support.condensing import cover
from tests.support.outcomes import execute
from tests.support.replaying import Comparison, accept_replay, comparison, every_row, forks, get_run, replay, run
from worker import Agent, Calls, RunContext, ScriptedModel, Team, tool
from worker.domain import ChatRequest, Role, RunOrder
from worker.errors import ModelUnavailable, RunNotFound, RunNotRetryable
from worker.process.runtime import Runtime
from worker.runs.cancel import cancel
from worker.runs.enqueue import enqueue
from worker.store.tables import runs

Process = Callable[..., Runtime]
DELEGATE = "delegate_task_to_member"


def said(request: ChatRequest) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return what a model was asked, without the ids of calls, which the script counts up."""
    return [(m.role, m.content, [(c.name, c.arguments) for c in m.tool_calls]) for m in request.messages]


class Counter:
    """A tool with an effect: it counts, in the session's state too, and says how far it has come."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def tool(self) -> Any:
        @tool(repeatable=False)
        def count(context: RunContext, by: Any = None, note: str = "") -> str:
            """Count one further."""
            self.count += 1
            context.session_state["count"] = self.count
            return f"counted {self.count}"

        return count


PASTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the last runs": {"add_history_to_context": True, "num_history_runs": 2},
    "the last messages": {"add_history_to_context": True, "num_history_messages": 3},
    "a summary": {"enable_session_summaries": True},
    "a summary and the last runs": {
        "enable_session_summaries": True,
        "add_history_to_context": True,
        "num_history_runs": 2,
    },
    "the state": {"add_history_to_context": True, "add_session_state_to_context": True},
}


@pytest.mark.parametrize("past", PASTS)
def test_a_replay_is_asked_what_the_run_was_asked_that_it_repeats(process: Process, past: str) -> None:
    """The same past, to the byte: history without what was rolled back, the summary of then, what may be read."""
    counter = Counter()
    asks = (("get_chat_history", {}), ("get_tool_call_history", {}), ("get_chat_history", {"num_runs": 1}))
    looks = [Calls(call) for call in asks]
    before = [Calls(("count", {}), ("count", {}), (DELEGATE, {"member_id": "m", "task": "x"})), "one", "two", "three"]
    script = [*before, *looks, "four", "five", *looks, "four"]
    member = Agent(id="m", model=ScriptedModel([Calls(("count", {})), "done"]), tools=[counter.tool])
    options = {"read_chat_history": True, "read_tool_call_history": True, **PASTS[past]}
    model = ScriptedModel(script)
    runtime = process(Team(id="t", model=model, tools=[counter.tool], members=[member], **options))
    run(runtime, "first")
    rolled_back = run(runtime, "second")
    with runtime.db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == rolled_back).values(excluded=True))
    pk = look.row(runtime.db, rolled_back).session_pk
    cover(runtime.db, pk, seq=4, position=1, text="an earlier summary")
    cover(runtime.db, pk, seq=look.row(runtime.db, rolled_back).last_seq, position=2, text="the summary of then")
    run(runtime, "third")
    source = run(runtime, "what was said?")
    run(runtime, "and later?")
    cover(runtime.db, pk, seq=look.row(runtime.db, source).last_seq, position=4, text="a later summary")

    repeated = replay(runtime, source)

    asked = [said(request) for request in model.requests]
    assert asked[-4:] == asked[-9:-5]
    assert ("the summary of then" in str(asked[-1])) == ("summary" in past)
    assert comparison(runtime.db, repeated) == Comparison("same", "four", "four")
    model.check_finished()


def test_a_summary_that_is_not_kept_any_more_is_replaced_by_an_earlier_state_of_the_session(process: Process) -> None:
    """Never by one that covers the run itself: of the versions that are left, the newest that ends before it."""
    model = ScriptedModel(["ok"] * 4)
    runtime = process(Team(id="t", model=model, enable_session_summaries=True))
    run(runtime, "first")
    source = run(runtime, "second")
    pk = look.row(runtime.db, source).session_pk
    cover(runtime.db, pk, seq=2, position=1, text="made afterwards")
    cover(runtime.db, pk, seq=3, position=2, text="covers the run")

    replay(runtime, source)

    assert "made afterwards" in str(model.requests[-1].messages)
    assert "covers the run" not in str(model.requests[-1].messages)


def test_recorded_results_are_served_and_no_tool_is_called(process: Process) -> None:
    """The k-th of equal calls gets the k-th result, whatever the order and the spelling of its arguments."""
    counter = Counter()
    first = Calls(("count", '{"note": "a", "by": 1}'), ("count", '{"by": 2}'))
    second = Calls(("count", '{"by": 1.0, "note": "a"}'), ("count", "{}"))
    again = Calls(("count", ""), ("count", '{ "by": 1, "note": "\\u0061"}'), ("count", '{"by":2.0}'))
    model = ScriptedModel([first, second, "old", again, Calls(("count", '{"note":"a","by":1}')), "new"])
    runtime = process(Team(id="t", model=model, tools=[counter.tool]))
    source = run(runtime, "count")

    repeated = replay(runtime, source)

    served = {m.tool_call_id: m.content for m in look.log(runtime.db, repeated) if m.role is Role.TOOL}
    recorded = {m.tool_call_id: m.content for m in look.log(runtime.db, source) if m.role is Role.TOOL}
    wanted = [recorded[call] for call in ("call_2_1", "call_1_0", "call_1_1", "call_2_0")]
    assert [served[call] for call in ("call_4_0", "call_4_1", "call_4_2", "call_5_0")] == wanted
    assert counter.count == 4
    assert comparison(runtime.db, repeated) == Comparison("changed", "old", "new")
    assert look.row(runtime.db, repeated).fence == 2, "no start of a call was recorded"


@pytest.mark.parametrize(
    "call",
    [
        ("count", {"by": 2}),  # never called so
        ("count", {"by": True}),  # true is no number
        ("count", {"by": "1"}),
        ("other", {"by": 1}),  # another tool
    ],
)
def test_a_call_that_has_no_result_ends_the_replay(process: Process, call: tuple[str, dict[str, Any]]) -> None:
    """As diverged, with the tool's name and no argument in the message; every call has a result that says so."""
    counter = Counter()

    @tool
    def other(by: int) -> str:
        """Do something else."""
        raise AssertionError("called")

    model = ScriptedModel([Calls(("count", {"by": 1})), "old", Calls(("count", {"by": 1}), call)])
    runtime = process(Team(id="t", model=model, tools=[counter.tool, other]))
    source = run(runtime, "count")

    repeated = replay(runtime, source)

    row = look.row(runtime.db, repeated)
    assert (row.status, row.error_code, counter.count) == ("failed", "replay_diverged", 1)
    assert repr(call[0]) in row.error_message
    assert "by" not in row.error_message
    results = [m.content for m in look.log(runtime.db, repeated) if m.role is Role.TOOL]
    assert len(results) == 2
    assert results[0] == "counted 1"
    assert results[1].startswith("No result: the replay left the path")
    assert comparison(runtime.db, repeated) == Comparison("diverged", "old", None)


def test_a_call_once_more_than_it_was_recorded_ends_the_replay(process: Process) -> None:
    """A result is served once."""
    counter = Counter()
    model = ScriptedModel([Calls(("count", {})), "old", Calls(("count", {})), Calls(("count", {}))])
    runtime = process(Team(id="t", model=model, tools=[counter.tool]))
    source = run(runtime, "count")

    repeated = replay(runtime, source)

    assert (comparison(runtime.db, repeated).status, counter.count) == ("diverged", 1)


def test_a_call_that_was_open_when_its_run_ended_has_no_result(process: Process) -> None:
    """What stands in its place was never said by the tool."""
    counter = Counter()
    ended = Calls(("count", {"by": 1}), ("unheard", {}))
    team = Team(id="t", model=ScriptedModel([ended] * 2), tools=[counter.tool])
    source = run(process(team, max_tool_calls=1), "count")
    runtime = process(team, max_tool_calls=9)

    repeated = replay(runtime, source)

    assert look.row(runtime.db, source).error_code == "limit_reached"
    assert (comparison(runtime.db, repeated).status, counter.count) == ("diverged", 0)


def test_each_members_tools_are_served_what_that_member_was_told(process: Process) -> None:
    """Also where they worked at the same time; the leader's own calls are apart from both."""
    counter = Counter()
    calls = Calls(*((DELEGATE, {"member_id": m, "task": "count"}) for m in "ab"), ("count", {}))

    def member(name: str, times: int) -> Agent:
        steps = [*[Calls(("count", {}))] * times, lambda request: request.messages[-1].content]
        return Agent(id=name, model=ScriptedModel(steps * 2), tools=[counter.tool])

    members = [member("a", 1), member("b", 2)]
    leader = ScriptedModel([calls, "old", calls, "new"])
    runtime = process(Team(id="t", model=leader, members=members, tools=[counter.tool]))
    source = run(runtime, "count")

    repeated = replay(runtime, source)

    def told(run_id: str) -> dict[str, list[str]]:
        log = look.log(runtime.db, run_id)
        parts = {m.delegation for m in log}
        authors = {d: next(m.author for m in log if m.delegation == d and m.tool_calls) for d in parts}
        return {
            a: sorted(m.content for m in log if m.delegation == d and m.author == "count") for d, a in authors.items()
        }

    assert told(repeated) == told(source)
    assert {name: len(results) for name, results in told(source).items()} == {"t": 1, "a": 1, "b": 2}
    assert counter.count == 4


def test_with_execute_tools_they_are_called(process: Process) -> None:
    """On the fork's state, which begins as the session's is; the session's own stays as it was."""
    counter = Counter()
    model = ScriptedModel([Calls(("count", {})), "old", Calls(("count", {"by": 7})), "new"])
    runtime = process(Team(id="t", model=model, tools=[counter.tool], session_state={"began": True}))
    source = run(runtime, "count")

    repeated = replay(runtime, source, execute_tools=True)

    assert (counter.count, comparison(runtime.db, repeated).status) == (2, "changed")
    assert [fork.state for fork in forks(runtime.db)] == [{"began": True, "count": 2}]
    assert every_row(runtime.db, "s")["sessions"][0]["state"] == {"began": True, "count": 1}


def test_a_replay_that_is_taken_up_again_goes_on_with_the_next_result(process: Process) -> None:
    """Which results are used up is counted in the log: a second attempt serves none of them twice."""
    counter = Counter()
    count, away = Calls(("count", {})), ModelUnavailable(model="m", reason="away", retry_after_s=0.0)
    model = ScriptedModel([count, count, "old", count, away, count, "old"])
    runtime = process(Team(id="t", model=model, tools=[counter.tool]))
    source = run(runtime, "count")
    repeated = replay(runtime, source)

    execute(runtime, repeated, "t")

    assert look.row(runtime.db, repeated).attempt == 2
    assert [m.content for m in look.log(runtime.db, repeated)] == [m.content for m in look.log(runtime.db, source)]
    assert (comparison(runtime.db, repeated).status, counter.count) == ("same", 2)


def test_nothing_of_the_session_is_touched(process: Process) -> None:
    """Its rows are the same before and after, whole; so are those of the run that is repeated."""
    counter = Counter()
    model = ScriptedModel(
        [Calls(("count", {})), "old", "next", Calls(("count", {})), "new", Calls(("count", {})), "new"]
    )
    runtime = process(Team(id="t", model=model, tools=[counter.tool], enable_session_summaries=True))
    source = run(runtime, "count", metadata={"a": 1})
    run(runtime, "next")
    cover(runtime.db, look.row(runtime.db, source).session_pk, seq=2, position=1)
    before = every_row(runtime.db, "s")

    repeated = get_run(runtime.db, replay(runtime, source))
    replay(runtime, source, execute_tools=True)

    assert every_row(runtime.db, "s") == before
    assert (repeated.input, repeated.metadata, repeated.timeout_s) == ("count", {"a": 1}, 99.0)
    assert (repeated.priority, repeated.user_id, repeated.position) == ("background", "u", 1)
    assert len({fork.session_id for fork in forks(runtime.db)}) == 2


def test_a_replay_of_a_replay_sees_the_same_past(process: Process) -> None:
    """It is compared to the replay that it repeats, and served what that one was served."""
    counter = Counter()
    count = Calls(("count", {}))
    model = ScriptedModel(["hi", count, "old", "later", count, "new", count, "newer"])
    runtime = process(Team(id="t", model=model, tools=[counter.tool], add_history_to_context=True))
    run(runtime, "hello")
    source = run(runtime, "count")
    run(runtime, "later")

    second = replay(runtime, replay(runtime, source))

    asked = [said(request) for request in model.requests]
    assert [text for _, text, _ in asked[-2]] == ["hello", "hi", "count"]
    assert asked[-4:-2] == asked[-2:]
    assert comparison(runtime.db, second) == Comparison("changed", "new", "newer")
    assert counter.count == 1


def test_only_what_has_ended_is_replayed(process: Process) -> None:
    """Neither an unfinished run nor one whose place in the history is not known yet; nor one that is gone."""
    runtime = process(Team(id="t", model=ScriptedModel(["hello", "hello"])))
    head, behind = (
        enqueue(runtime.db, RunOrder("t", text, session_id="s", user_id="u"), settings=runtime.settings).run.id
        for text in ("a", "b")
    )
    cancel(runtime.db, behind)

    for run_id, found in ((head, "queued"), (behind, "cancelled")):
        with pytest.raises(RunNotRetryable, match=found):
            accept_replay(runtime, run_id)
    with pytest.raises(RunNotFound):
        accept_replay(runtime, "run_x")
    assert forks(runtime.db) == []
    execute(runtime, head, "t")
    waiting = accept_replay(runtime, behind)
    assert comparison(runtime.db, waiting.id).status is None
    execute(runtime, waiting.id, "t")
    assert comparison(runtime.db, waiting.id) == Comparison("changed", None, "hello")
