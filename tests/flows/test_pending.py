"""Runs that wait for decisions: a held call stops no other one, and no model call is made twice."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.support.system import wait_until
from worker import Agent, Calls, Limits, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.domain import SERVICE, Decision, OnBusy, PendingCall, RunOrder, Status
from worker.domain.pending import key_of
from worker.errors import (
    AlreadyDecided,
    ArgumentInvalid,
    DecisionInvalid,
    DefinitionInvalid,
    PendingNotFound,
    RunFailed,
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
from worker.store import messages, pending_calls, runs
from worker.store.columns import db_time
from worker.store.tables import pending_calls as table
from worker.store.tables import runs as runs_table


@pytest.fixture
def db(database_url: str) -> Iterator[Db]:
    """A database of a script."""
    db = Db(database_url)
    yield db
    db.close()


@pytest.fixture
def made() -> list[Any]:
    """The effects of the tools, in order."""
    return []


@pytest.fixture
def tools(made: list[Any]) -> list[Any]:
    """One tool of each kind, and one that asks nobody."""

    @tool(requires_confirmation=True)
    def refund(eur: int, context: RunContext) -> str:
        """Refund."""
        made.append(("refund", eur, context.idempotency_key))
        return f"refunded {eur}"

    @tool(requires_user_input=True, user_input_fields=["address"])
    def ship(order: str, address: str) -> str:
        """Ship."""
        made.append(("ship", order, address))
        return f"shipped {order} to {address}"

    @tool(external_execution=True)
    def run_sql(query: str) -> str:
        """Run a query."""
        raise AssertionError

    def look(q: str) -> str:
        """Look."""
        made.append(("look", q))
        return f"found {q}"

    return [refund, ship, run_sql, look]


def calls_of(db: Db, run_id: str) -> list[PendingCall]:
    with db.runtime.db.read() as tx:
        return pending_calls.of_run(tx, run_id)


def log_of(db: Db, run_id: str) -> list[str]:
    with db.runtime.db.read() as tx:
        return [message.content for message in messages.of_run_by_id(tx, run_id) if message.role == "tool"]


def row_of(db: Db, run_id: str) -> Any:
    with db.runtime.db.read() as tx:
        return tx.execute(select(runs_table).where(runs_table.c.id == run_id)).one()


def test_a_script_decides_about_each_kind(db: Db, tools: list[Any], made: list[Any]) -> None:
    """With the names of Agno. A call that asks nobody is made at once."""
    steps = Calls(("look", {"q": "a"}), ("refund", {"eur": 5}), ("ship", {"order": "7"}), ("run_sql", {"query": "q"}))
    model = ScriptedModel([steps, "done"])
    team = Team(id="t", model=model, tools=tools, db=db)

    output = team.run("hi", session_id="s")

    assert output.is_paused
    assert output.status is Status.PAUSED
    assert made == [("look", "a")]
    assert [(c.kind, c.tool_name, c.tool_args) for c in output.active_requirements] == [
        ("confirmation", "refund", {"eur": 5}),
        ("input", "ship", {"order": "7"}),
        ("external", "run_sql", {"query": "q"}),
    ]
    row = row_of(db, output.run_id)
    assert (row.lease_owner, row.lease_until, row.status) == (None, None, "queued")
    assert row.paused_at is not None
    for call in output.active_requirements:
        if call.needs_confirmation:
            call.confirm()
        if call.needs_user_input:
            assert [field.name for field in call.user_input_schema] == ["address"]
            call.provide_user_input({"address": "Rome"})
        if call.needs_external_execution:
            call.set_external_execution_result("3 rows")
    ended = team.continue_run(output)

    assert (ended.is_paused, ended.content) == (False, "done")
    assert sorted(effect[:2] for effect in made[1:]) == [("refund", 5), ("ship", "7")]
    assert sorted(log_of(db, output.run_id)) == ["3 rows", "found a", "refunded 5", "shipped 7 to Rome"]
    assert len(model.requests) == 2


def test_the_model_is_not_asked_for_what_somebody_else_gives(db: Db, tools: list[Any]) -> None:
    """The schema that it gets lacks these arguments, and wrong ones of its own are an error at once."""
    model = ScriptedModel([Calls(("ship", {"wrong": 1}), ("refund", {"eur": "no"})), "done"])
    team = Team(id="t", model=model, tools=tools, db=db)

    output = team.run("hi", session_id="s")

    ship = next(t for t in model.requests[0].tools if t.name == "ship")
    assert list(ship.parameters["properties"]) == ["order"]
    assert not output.is_paused
    assert all(text.startswith("Error: the arguments of") for text in log_of(db, output.run_id))


def test_decisions_count_one_by_one_and_paused_time_does_not(db: Db, tools: list[Any], made: list[Any]) -> None:
    """The run goes on with what is decided, and pauses again. A double click is one; another decision is refused."""
    model = ScriptedModel([Calls(("refund", {"eur": 5}), ("refund", {"eur": 7})), "done"])
    team = Team(id="t", model=model, tools=tools, db=db, limits=Limits(seconds=1.5))
    output = team.run("hi", session_id="s")
    first, second = (call.id for call in output.active_requirements)
    time.sleep(2)

    output = team.continue_run(run_id=output.run_id, decisions=[Decision(first, "approve")])
    assert output.is_paused
    assert [call.id for call in output.active_requirements] == [second]
    assert [effect[:2] for effect in made] == [("refund", 5)]
    run, _ = decide(db.runtime.db, output.run_id, [Decision(first, "approve")])
    assert run.status is Status.PAUSED
    with pytest.raises(AlreadyDecided, match="approve"):
        decide(db.runtime.db, output.run_id, [Decision(first, "reject")])
    output = team.continue_run(run_id=output.run_id, decisions=[Decision(second, "reject", note="too much")])

    assert output.content == "done"
    assert len(made) == 1
    assert len(model.requests) == 2
    assert log_of(db, output.run_id)[-1] == "Error: this call was not made: it was rejected. too much"


def test_members_pause_and_their_siblings_work_on(db: Db, tools: list[Any], made: list[Any]) -> None:
    """The leader's own calls, two members in parallel, changed arguments; each model is asked once for each reply."""

    def member(request: Any) -> Any:
        asked = any(m.role == "assistant" for m in request.messages)
        return "A is done" if asked else Calls(("refund", {"eur": 9}))

    a, b = ScriptedModel([member, member]), ScriptedModel(["B is done"])
    delegations = [("delegate_task_to_member", {"member_id": id, "task": id}) for id in "ab"]
    lead = ScriptedModel([Calls(*delegations, ("run_sql", {"query": "q"})), "all done"])
    members = [Agent(id="a", role="x", model=a, tools=tools), Agent(id="b", role="y", model=b)]
    team = Team(id="t", model=lead, tools=tools, members=members, db=db)

    output = team.run("hi", session_id="s")
    waiting = {call.tool_name: call for call in output.active_requirements}
    assert waiting["refund"].author == "a"
    assert {m.content for m in output.messages} >= {"B is done"}
    waiting["refund"].confirm(arguments={"eur": 3})
    output = team.continue_run(output)
    assert output.is_paused
    assert [effect[:2] for effect in made] == [("refund", 3)]
    waiting["run_sql"].set_external_execution_result("rows")
    output = team.continue_run(output, requirements=[waiting["run_sql"]])

    assert output.content == "all done"
    assert '(It was called with other arguments: {"eur": 3}) refunded 3' in log_of(db, output.run_id)
    assert (len(a.requests), len(b.requests), len(lead.requests)) == (2, 1, 2)


def test_a_decision_that_comes_before_the_pause_is_not_lost(db: Db, tools: list[Any], made: list[Any]) -> None:
    """Somebody decides while another call still works."""
    goes_on = threading.Event()

    def slow() -> str:
        """Take long."""
        assert goes_on.wait(30)
        return "slow"

    model = ScriptedModel([Calls(("refund", {"eur": 2}), ("slow", {})), "done"])
    team = Team(id="t", model=model, tools=[*tools, slow], db=db)
    outputs: list[Any] = []
    thread = threading.Thread(target=lambda: outputs.append(team.run("hi", session_id="s")))
    thread.start()
    run_id, call_id = wait_until(lambda: _one_waits(db), description="a call waits") or ("", "")
    decide(db.runtime.db, run_id, [Decision(call_id, "approve")])
    goes_on.set()
    thread.join(30)

    assert [output.content for output in outputs] == ["done"]
    assert len(made) == 1
    assert len(model.requests) == 2


def _one_waits(db: Db) -> tuple[str, str] | None:
    with db.runtime.db.read() as tx:
        page = pending_calls.page(tx, pending_calls.PendingFilters(), principal=SERVICE, after=None, limit=5)
    return (page[0].run_id, page[0].id) if page else None


def test_a_paused_head_holds_its_session(db: Db, tools: list[Any], made: list[Any]) -> None:
    """A script must not wait for days; a run for the workers waits its turn, and `why` says for what."""
    model = ScriptedModel([Calls(("refund", {"eur": 1})), "second answered", "third answered"])
    team = Team(id="t", model=model, tools=tools, db=db, add_history_to_context=True)
    first = team.run("first", session_id="s", user_id="u")

    with pytest.raises(SessionPaused, match=first.run_id):
        team.run("second", session_id="s", user_id="u")
    second = enqueue(db.runtime.db, RunOrder("t", "second", session_id="s", user_id="u"), settings=Settings()).run
    reasons = [why(db.runtime.db, NoDispatcher(), Settings(), id) for id in (first.run_id, second.id)]
    assert [reason.reason for reason in reasons] == ["paused", "behind_run"]
    assert reasons[1].facts["behind_reason"] == "paused"
    order = RunOrder("t", "third", session_id="s", user_id="u", on_busy=OnBusy.REJECT)
    with pytest.raises(SessionBusy):
        enqueue(db.runtime.db, order, settings=Settings())

    run, _ = cancel(db.runtime.db, first.run_id)

    assert (run.status, made) == (Status.CANCELLED, [])
    assert [call.decision for call in calls_of(db, first.run_id)] == ["cancelled"]
    assert log_of(db, first.run_id) == ["Not made: the run was cancelled."]
    with pytest.raises(RunNotPaused):
        decide(db.runtime.db, first.run_id, [Decision(calls_of(db, first.run_id)[0].id, "approve")])
    assert team.run("third", session_id="s", user_id="u").content == "third answered"


@pytest.mark.parametrize("on_busy", [OnBusy.INTERRUPT, OnBusy.ROLLBACK])
def test_a_run_that_interrupts_ends_a_paused_head(db: Db, tools: list[Any], on_busy: OnBusy) -> None:
    """At once, as a queued one: no process holds it."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1}))]), tools=tools, db=db)
    first = team.run("first", session_id="s", user_id="u")

    order = RunOrder("t", "second", session_id="s", user_id="u", on_busy=on_busy)
    enqueue(db.runtime.db, order, settings=Settings())

    row = row_of(db, first.run_id)
    assert (row.status, row.paused_at, row.excluded) == ("cancelled", None, on_busy is OnBusy.ROLLBACK)


def test_runs_coalesce_and_pass_behind_a_paused_head(db: Db, tools: list[Any]) -> None:
    """The paused head has begun: nothing goes before it, and nothing joins it."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1}))]), tools=tools, db=db)
    first = team.run("first", session_id="s", user_id="u")

    def add(text: str, on_busy: OnBusy) -> Any:
        order = RunOrder("t", text, session_id="s", user_id="u", on_busy=on_busy)
        return enqueue(db.runtime.db, order, settings=Settings()).run

    second, joined, passing = add("2", OnBusy.COALESCE), add("3", OnBusy.COALESCE), add("4", OnBusy.PASS)

    assert joined.id == second.id
    assert row_of(db, second.id).input == "2\n\n3"
    assert row_of(db, first.run_id).position == 1
    assert (second.position, passing.position) == (2, 3)


@pytest.mark.parametrize("on_expiry", ["reject", "fail"])
def test_a_call_expires(db: Db, made: list[Any], on_expiry: Any) -> None:
    """The model is told, or the run fails, as the tool says. Then a decision is too late."""

    @tool(requires_confirmation=True, expires_s=60, on_expiry=on_expiry)
    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 1})), "done"]), tools=[refund], db=db)
    output = team.run("hi", session_id="s")
    assert expire(db.runtime.db) == ()
    with db.runtime.db.write() as tx:
        tx.execute(update(table).values(expires_at=db_time(-1)))

    (dispatch,) = expire(db.runtime.db)
    assert dispatch.ids["run_id"] == output.run_id
    assert expire(db.runtime.db) == ()
    with pytest.raises(AlreadyDecided, match="expired"):
        decide(db.runtime.db, output.run_id, [Decision(output.active_requirements[0].id, "approve")])
    if on_expiry == "fail":
        with pytest.raises(RunFailed, match="No decision about a call of tool 'refund' came in time"):
            team.continue_run(output)
        assert log_of(db, output.run_id) == ["Not made: no decision came in time."]
    else:
        assert team.continue_run(output).content == "done"
        assert log_of(db, output.run_id) == ["Error: this call was not made: no decision came in time."]
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
def test_what_does_not_fit_is_refused_whole(db: Db, tools: list[Any], kind: str, decision: dict[str, Any]) -> None:
    """With a sentence that quotes none of it; no decision of the same request is written."""
    calls = Calls(("refund", {"eur": 5}), ("ship", {"order": "7"}), ("run_sql", {"query": "q"}), ("refund", {"eur": 6}))
    output = Team(id="t", model=ScriptedModel([calls]), tools=tools, db=db).run("hi", session_id="s")
    id = next(call.id for call in output.active_requirements if call.tool_name == kind)

    with pytest.raises(DecisionInvalid) as refused:
        decide(
            db.runtime.db,
            output.run_id,
            [Decision(output.active_requirements[-1].id, "approve"), Decision(id, **decision)],
        )

    assert "many" not in refused.value.message
    assert all(call.is_open for call in calls_of(db, output.run_id))
    for forged in ("run_x.1.0", id + "0", "", key_of(id)):
        with pytest.raises(PendingNotFound):
            decide(db.runtime.db, output.run_id, [Decision(forged, "approve")])


def test_a_function_says_which_calls_ask(db: Db, made: list[Any]) -> None:
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
    output = Team(id="t", model=ScriptedModel([steps]), tools=[refund], db=db).run("hi", session_id="s")

    assert made == [1]
    assert [call.tool_args for call in output.active_requirements] == [{"eur": 100}]
    assert any("was not made" in text and "ValueError" in text for text in log_of(db, output.run_id))


def test_a_deploy_changes_the_tool_while_its_call_waits(db: Db, tools: list[Any], made: list[Any]) -> None:
    """What is recorded counts: a tool that asks no more waits still. One that is gone makes no call."""

    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    for later_tools, effects, result in (([refund], [5], "refunded"), ([], [], "Error: there is no tool 'refund'")):
        made.clear()
        model = ScriptedModel([Calls(("refund", {"eur": 5}), ("run_sql", {"query": "q"})), "done"])
        output = Team(id="t", model=model, tools=tools, db=db).run("hi")
        call, other = output.active_requirements
        later = Team(id="t", model=model, tools=[*later_tools, tools[2]], db=db)
        other.set_external_execution_result("rows")
        output = later.continue_run(output, requirements=[other])
        if later_tools:
            assert output.is_paused
            assert made == []
            call.confirm()
            output = later.continue_run(output, requirements=[call])

        assert (output.content, made) == ("done", effects)
        assert any(text.startswith(result) for text in log_of(db, output.run_id))
        assert all(not call.is_open for call in calls_of(db, output.run_id))


def test_a_retry_asks_again_and_a_replay_asks_nobody(db: Db, tools: list[Any], made: list[Any]) -> None:
    """A retry repeats the input. A replay takes the recorded results."""
    model = ScriptedModel([Calls(("refund", {"eur": 5})), Calls(("refund", {"eur": 5})), "done"])
    team = Team(id="t", model=model, tools=tools, db=db)
    first = team.run("hi", session_id="s")
    cancel(db.runtime.db, first.run_id)

    with db.runtime.db.write() as tx:
        run = runs.get(tx, first.run_id, principal=SERVICE)
        assert run is not None
        retried = again(tx, run, settings=Settings(), priority=run.priority)
    output = team.continue_run(run_id=retried.run.id)

    assert output.is_paused
    assert made == []
    output.active_requirements[0].confirm()
    assert team.continue_run(output).content == "done"
    assert len(made) == 1


def test_an_event_says_what_waits_and_the_stream_ends_at_the_pause(db: Db, tools: list[Any]) -> None:
    """In a script: nothing more happens until somebody decides. It goes on in a stream of its own, sync or async."""
    model = ScriptedModel([Calls(("refund", {"eur": 5})), "one", Calls(("refund", {"eur": 5})), "two"])
    team = Team(id="t", model=model, tools=tools, db=db)

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


def test_going_on_needs_a_decision(db: Db, tools: list[Any]) -> None:
    """Otherwise a loop over `is_paused` would not end."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5}))]), tools=tools, db=db)
    output = team.run("hi", session_id="s")

    with pytest.raises(ArgumentInvalid, match="no call is decided"):
        team.continue_run(output)
    with pytest.raises(ArgumentInvalid, match="needs the output"):
        team.continue_run()


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
