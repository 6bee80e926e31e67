"""What else happens around a run that waits: its session, cancels, expiries, wrong decisions, deploys."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.asking import calls_of, results_of, row_of
from worker import Calls, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain import (
    SERVICE,
    Decision,
    OnBusy,
    RunOrder,
    Status,
)
from worker.domain.pending import key_of
from worker.errors import (
    AlreadyDecided,
    ArgumentInvalid,
    DecisionInvalid,
    DefinitionInvalid,
    PendingNotFound,
    RunFailed,
    RunNotFound,
    RunNotPaused,
    SessionBusy,
    SessionPaused,
)
from worker.queue.dispatch import NoDispatcher
from worker.runs.cancel import cancel
from worker.runs.decide import decide, expire
from worker.runs.enqueue import enqueue
from worker.runs.retry import again
from worker.runs.why import why
from worker.settings import Settings
from worker.store import runs
from worker.store.columns import db_time
from worker.store.tables import pending_calls as table


def test_a_paused_head_holds_its_session(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """A script must not wait for days; a run for the workers waits its turn, and `why` says for what."""
    model = ScriptedModel([Calls(("refund", {"eur": 1})), "second answered", "third answered"])
    team = Team(id="t", model=model, tools=asking, db=script_db, add_history_to_context=True)
    first = team.run("first", session_id="s", user_id="u")

    with pytest.raises(SessionPaused, match=first.run_id):
        team.run("second", session_id="s", user_id="u")
    second = enqueue(
        script_db.runtime.db, RunOrder("t", "second", session_id="s", user_id="u"), settings=Settings()
    ).run
    reasons = [why(script_db.runtime.db, NoDispatcher(), Settings(), id) for id in (first.run_id, second.id)]
    assert [reason.reason for reason in reasons] == ["paused", "behind_run"]
    assert reasons[1].facts["behind_reason"] == "paused"
    order = RunOrder("t", "third", session_id="s", user_id="u", on_busy=OnBusy.REJECT)
    with pytest.raises(SessionBusy):
        enqueue(script_db.runtime.db, order, settings=Settings())

    run, _ = cancel(script_db.runtime.db, first.run_id)

    assert (run.status, made) == (Status.CANCELLED, [])
    assert [call.decision for call in calls_of(script_db, first.run_id)] == ["cancelled"]
    assert results_of(script_db, first.run_id) == ["Not made: the run was cancelled."]
    with pytest.raises(RunNotPaused):
        decide(script_db.runtime.db, first.run_id, [Decision(calls_of(script_db, first.run_id)[0].id, "approve")])
    assert team.run("third", session_id="s", user_id="u").content == "third answered"


@pytest.mark.parametrize("on_busy", [OnBusy.INTERRUPT, OnBusy.ROLLBACK])
def test_a_run_that_interrupts_ends_a_paused_head(script_db: Db, asking: list[Any], on_busy: OnBusy) -> None:
    """At once, as a queued one: no process holds it."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1}))]), tools=asking, db=script_db)
    first = team.run("first", session_id="s", user_id="u")

    order = RunOrder("t", "second", session_id="s", user_id="u", on_busy=on_busy)
    enqueue(script_db.runtime.db, order, settings=Settings())

    row = row_of(script_db, first.run_id)
    assert (row.status, row.paused_at, row.excluded) == ("cancelled", None, on_busy is OnBusy.ROLLBACK)


def test_runs_coalesce_and_pass_behind_a_paused_head(script_db: Db, asking: list[Any]) -> None:
    """The paused head has begun: nothing goes before it, and nothing joins it."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1}))]), tools=asking, db=script_db)
    first = team.run("first", session_id="s", user_id="u")

    def add(text: str, on_busy: OnBusy) -> Any:
        order = RunOrder("t", text, session_id="s", user_id="u", on_busy=on_busy)
        return enqueue(script_db.runtime.db, order, settings=Settings()).run

    second, joined, passing = add("2", OnBusy.COALESCE), add("3", OnBusy.COALESCE), add("4", OnBusy.PASS)

    assert joined.id == second.id
    assert row_of(script_db, second.id).input == "2\n\n3"
    assert row_of(script_db, first.run_id).position == 1
    assert (second.position, passing.position) == (2, 3)


@pytest.mark.parametrize("on_expiry", ["reject", "fail"])
def test_a_call_expires(script_db: Db, made: list[Any], on_expiry: Any) -> None:
    """The model is told, or the run fails, as the tool says. Then a decision is too late."""

    @tool(requires_confirmation=True, expires_s=60, on_expiry=on_expiry)
    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1})), "done"]), tools=[refund], db=script_db)
    output = team.run("hi", session_id="s")
    assert expire(script_db.runtime.db) == ()
    with script_db.runtime.db.write() as tx:
        tx.execute(update(table).values(expires_at=db_time(-1)))

    (dispatch,) = expire(script_db.runtime.db)
    assert dispatch.ids["run_id"] == output.run_id
    assert expire(script_db.runtime.db) == ()
    with pytest.raises(AlreadyDecided, match="expired"):
        decide(script_db.runtime.db, output.run_id, [Decision(output.active_requirements[0].id, "approve")])
    if on_expiry == "fail":
        with pytest.raises(RunFailed, match="No decision about a call of tool 'refund' came in time"):
            team.continue_run(output)
        assert results_of(script_db, output.run_id) == ["Not made: no decision came in time."]
    else:
        assert team.continue_run(output).content == "done"
        assert results_of(script_db, output.run_id) == ["Error: this call was not made: no decision came in time."]
    assert made == []


@pytest.mark.parametrize(
    ("kind", "decision"),
    [
        ("refund", {"action": "answer", "result": "x"}),
        ("refund", {"action": "approve", "arguments": {"eur": "many"}}),
        ("refund", {"action": "approve", "result": "x"}),
        ("refund", {"action": "approve", "note": "a\x00b"}),
        ("refund", {"action": "reject", "arguments": {"eur": 3}}),
        ("ship", {"action": "approve"}),
        ("ship", {"action": "answer"}),
        ("ship", {"action": "answer", "arguments": {"order": "8", "address": "x"}}),
        ("run_sql", {"action": "answer"}),
        ("run_sql", {"action": "answer", "arguments": {}}),
        ("run_sql", {"action": "answer", "result": "x" * 1_100_000}),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    script_db: Db, asking: list[Any], kind: str, decision: dict[str, Any]
) -> None:
    """With a sentence that quotes none of it; no decision of the same request is written."""
    calls = Calls(("refund", {"eur": 5}), ("ship", {"order": "7"}), ("run_sql", {"query": "q"}), ("refund", {"eur": 6}))
    output = Team(id="t", model=ScriptedModel([calls]), tools=asking, db=script_db).run("hi", session_id="s")
    id = next(call.id for call in output.active_requirements if call.tool_name == kind)

    with pytest.raises(DecisionInvalid) as refused:
        decide(
            script_db.runtime.db,
            output.run_id,
            [Decision(output.active_requirements[-1].id, "approve"), Decision(id, **decision)],
        )

    assert "many" not in refused.value.message
    assert all(call.is_open for call in calls_of(script_db, output.run_id))
    for forged in ("run_x.1.0", id + "0", "", key_of(id)):
        with pytest.raises(PendingNotFound):
            decide(script_db.runtime.db, output.run_id, [Decision(forged, "approve")])


def test_a_function_says_which_calls_ask(script_db: Db, made: list[Any]) -> None:
    """With the arguments or the context. One that fails makes no call."""

    def is_large(arguments: dict[str, Any], context: RunContext) -> bool:
        if arguments["eur"] == 0:
            raise ValueError(context.run_id)
        return bool(arguments["eur"] > 10)

    @tool(requires_confirmation=is_large)
    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    steps = Calls(("refund", {"eur": 1}), ("refund", {"eur": 100}), ("refund", {"eur": 0}))
    output = Team(id="t", model=ScriptedModel([steps]), tools=[refund], db=script_db).run("hi", session_id="s")

    assert made == [1]
    assert [call.tool_args for call in output.active_requirements] == [{"eur": 100}]
    assert any("was not made" in text and "ValueError" in text for text in results_of(script_db, output.run_id))


def test_a_deploy_changes_the_tool_while_its_call_waits(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """What is recorded counts: a tool that asks no more waits still. One that is gone makes no call."""

    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    for later_tools, effects, result in (([refund], [5], "refunded"), ([], [], "Error: there is no tool 'refund'")):
        made.clear()
        model = ScriptedModel([Calls(("refund", {"eur": 5}), ("run_sql", {"query": "q"})), "done"])
        output = Team(id="t", model=model, tools=asking, db=script_db).run("hi")
        call, other = output.active_requirements
        later = Team(id="t", model=model, tools=[*later_tools, asking[2]], db=script_db)
        other.set_external_execution_result("rows")
        output = later.continue_run(output, requirements=[other])
        if later_tools:
            assert output.is_paused
            assert made == []
            call.confirm()
            output = later.continue_run(output, requirements=[call])

        assert (output.content, made) == ("done", effects)
        assert any(text.startswith(result) for text in results_of(script_db, output.run_id))
        assert all(not call.is_open for call in calls_of(script_db, output.run_id))


def test_a_retry_asks_again(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """It repeats the input, without the decisions."""
    model = ScriptedModel([Calls(("refund", {"eur": 5})), Calls(("refund", {"eur": 5})), "done"])
    team = Team(id="t", model=model, tools=asking, db=script_db)
    first = team.run("hi", session_id="s")
    cancel(script_db.runtime.db, first.run_id)

    with script_db.runtime.db.write() as tx:
        run = runs.get(tx, first.run_id, principal=SERVICE)
        assert run is not None
        retried = again(tx, run, settings=Settings(), priority=run.priority)
    output = team.continue_run(run_id=retried.run.id)

    assert output.is_paused
    assert made == []
    output.active_requirements[0].confirm()
    assert team.continue_run(output).content == "done"
    assert len(made) == 1


def test_an_event_says_what_waits_and_the_stream_ends_at_the_pause(script_db: Db, asking: list[Any]) -> None:
    """In a script: nothing more happens until somebody decides. It goes on in a stream of its own, sync or async."""
    model = ScriptedModel([Calls(("refund", {"eur": 5})), "one", Calls(("refund", {"eur": 5})), "two"])
    team = Team(id="t", model=model, tools=asking, db=script_db)

    events = list(team.run("hi", session_id="s", stream=True))
    types = [event.type for event in events]
    (pending,) = [event.data for event in events if event.type == "tool_call.pending"]
    assert types[-1] == "run.paused"
    assert events[-1].data["pending"] == [pending["pending_id"]]
    assert pending["kind"] == "confirmation"
    assert "tool_call.started" not in types
    decision = Decision(pending["pending_id"], "approve")
    going_on = [e.type for e in team.continue_run(run_id=events[-1].data["run_id"], decisions=[decision], stream=True)]
    assert "tool_call.started" in going_on
    assert going_on[-1] == "run.completed"

    async def main() -> tuple[str, list[str]]:
        output = await team.arun("again", session_id="s2")
        output.active_requirements[0].confirm()
        return output.run_id, [event.type async for event in team.acontinue_run(output, stream=True)]

    assert asyncio.run(main())[1][-1] == "run.completed"


def test_going_on_needs_a_decision(script_db: Db, asking: list[Any]) -> None:
    """Otherwise a loop over `is_paused` would not end."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5}))]), tools=asking, db=script_db)
    output = team.run("hi", session_id="s")

    with pytest.raises(ArgumentInvalid, match="no call is decided"):
        team.continue_run(output)
    with pytest.raises(ArgumentInvalid, match="needs the output"):
        team.continue_run()
    output.active_requirements[0].confirm()
    with pytest.raises(RunNotFound):
        team.continue_run(output, user_id="somebody else", session_id="s")
    with pytest.raises(RunNotFound):  # it could not execute the run, and would wait for it without end
        Team(id="other", model=ScriptedModel([]), db=script_db).continue_run(output)
    assert calls_of(script_db, output.run_id)[0].is_open


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"requires_confirmation": True, "external_execution": True}, "exclude each other"),
        ({"user_input_fields": ["nothing"]}, "'nothing'"),
        ({"requires_confirmation": True, "expires_s": 0}, "expires_s is 0"),
        ({"requires_confirmation": True, "on_expiry": "panic"}, "on_expiry is 'panic'"),
        ({"requires_confirmation": True, "decided_by": "me"}, "decided_by is 'me'"),
    ],
)
def test_options_that_cannot_be_are_sentences(options: dict[str, Any], problem: str) -> None:
    """Where the tool is made."""
    with pytest.raises((DefinitionInvalid, Exception), match=problem):

        @tool(**options)
        def act(eur: int) -> str:
            """Act."""
            return "x"
