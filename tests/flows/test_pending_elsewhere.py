"""Pending calls in batches, through Celery, of the model's own questions, in exports."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.asking import calls_of, results_of
from worker import Calls, ScriptedModel, Team, tool
from worker.batches import lifecycle
from worker.batches.accept import ExplicitItems, create
from worker.batches.feed import step
from worker.db import Db
from worker.domain import (
    SERVICE,
    BatchOrder,
    BatchRun,
    BatchStatus,
    Decision,
    End,
    Kind,
    RunOrder,
    Status,
)
from worker.errors import WorkersTooOld
from worker.handle import RunHandle
from worker.privacy import export
from worker.process.runtime import Runtime
from worker.runs.cancel import cancel
from worker.runs.decide import decide
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.runs.intake_decisions import accept_decisions
from worker.runs.replay import replay_in
from worker.settings import Settings
from worker.store import Database, batch_items, pending_calls, runs, teams
from worker.store.tables import teams as teams_table


def test_a_paused_item_of_a_batch_leaves_its_place_to_others(script_db: Db, asking: list[Any]) -> None:
    """Otherwise as many people as its window is wide could stop it. The batch ends when they have decided."""
    db = script_db.runtime.db
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": n})) for n in (1, 2, 3)]), tools=asking)
    with db.write() as tx:
        teams.announce(tx, worker="w", versions={"t": "1"}, queues=["runs", "batch"])
    items = [BatchRun(team="t", input=f"{n}", session_id=f"s{n}", user_id="u") for n in (1, 2, 3)]
    order = BatchOrder(kind=Kind.ENQUEUE_RUNS, window=1)
    batch_id = create(db, order, principal=SERVICE, settings=Settings(), items=ExplicitItems(requests=items)).id

    begun = []
    for _ in items:
        step(db, batch_id, settings=Settings(), send=lambda dispatches: None)
        (run_id,) = set(in_flight(db, batch_id)) - set(begun)
        begun.append(run_id)
        assert execute(replace(script_db.runtime, teams={"t": team.definition}), run_id, "t").end is End.PAUSED
    with db.read() as tx:
        page = batch_items.page(tx, batch_id, after=0, limit=10)
        assert [item.status for item in page] == ["paused"] * 3
    for run_id in begun:
        cancel(db, run_id)
    step(db, batch_id, settings=Settings(), send=lambda dispatches: None)

    assert lifecycle.get(db, batch_id, principal=SERVICE).status is BatchStatus.COMPLETED


def in_flight(db: Database, batch_id: str) -> list[str]:
    with db.read() as tx:
        return batch_items.runs_in_flight(tx, batch_id)


def test_a_model_asks_the_user(script_db: Db) -> None:
    """With the built-in tool; the answer is the result of its call."""
    model = ScriptedModel([Calls(("ask_user", {"question": "Which size?", "options": ["S", "L"]})), "L it is."])
    team = Team(id="t", model=model, ask_user=True, db=script_db)

    output = team.run("A shirt", session_id="s")
    (question,) = output.active_requirements
    assert question.tool_args == {"question": "Which size?", "options": ["S", "L"]}
    question.user_input_schema[0].value = "L"

    assert team.continue_run(output).content == "L it is."
    assert results_of(script_db, output.run_id) == ["L"]


def test_another_service_decides_through_celery(
    process: Callable[..., Runtime], asking: list[Any], made: list[Any]
) -> None:
    """The same decisions as over HTTP; what is refused is said without a word of theirs."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5})), "done"]), tools=asking)
    runtime = process(team)
    run_id = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run.id
    assert execute(runtime, run_id, "t").end is End.PAUSED
    with runtime.db.read() as tx:
        (call,) = pending_calls.of_run(tx, run_id)
    yes = {"id": call.id, "action": "approve"}

    for wrong, code in (
        ({"decisions": [yes]}, "invalid_identifier"),
        ({"run_id": run_id, "decisions": [yes], "else": 1}, "order_invalid"),
        ({"run_id": run_id, "decisions": []}, "order_invalid"),
        ({"run_id": run_id, "decisions": [{**yes, "action": "maybe"}]}, "order_invalid"),
        ({"run_id": run_id, "user_id": "other", "decisions": [yes]}, "run_not_found"),
        ({"run_id": run_id, "decisions": [{**yes, "arguments": {"eur": "many"}}]}, "decision_invalid"),
    ):
        assert accept_decisions(runtime, wrong) == f"refused: {code}"
    sent = {"run_id": run_id, "user_id": "u", "decisions": [yes], "approver": "ada"}
    assert accept_decisions(runtime, sent) == f"decided: {run_id}"
    assert execute(runtime, run_id, "t").end is End.COMPLETED
    assert len(made) == 1


@pytest.mark.parametrize("recorded", [True, False])
def test_a_replay_does_not_ask_again(
    process: Callable[..., Runtime], asking: list[Any], made: list[Any], recorded: bool
) -> None:
    """With recorded results no tool is called; one that executes its tools takes the decisions of then."""
    steps = Calls(("refund", {"eur": 5}), ("refund", {"eur": 6}))
    team = Team(id="t", model=ScriptedModel([steps, "done", steps, "done"]), tools=asking)
    runtime = process(team)
    first = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run.id
    execute(runtime, first, "t")
    with runtime.db.read() as tx:
        yes, no = pending_calls.of_run(tx, first)
    decide(runtime.db, first, [Decision(yes.id, "approve", {"eur": 1}), Decision(no.id, "reject")])
    execute(runtime, first, "t")
    with runtime.db.write() as tx:
        replayed = replay_in(tx, first, execute_tools=not recorded, settings=Settings()).run.id

    assert execute(runtime, replayed, "t").end is End.COMPLETED

    assert [effect[1] for effect in made] == ([1] if recorded else [1, 1])
    with runtime.db.read() as tx:
        assert pending_calls.of_run(tx, replayed) == []


def test_a_replay_makes_a_call_that_waited_for_nothing(process: Callable[..., Runtime], made: list[Any]) -> None:
    """A function of the tool says so, then and now."""

    @tool(requires_confirmation=lambda arguments: arguments["eur"] > 10)
    def refund(eur: int) -> str:
        """Refund."""
        made.append(eur)
        return "refunded"

    small = Calls(("refund", {"eur": 1}))
    runtime = process(Team(id="t", model=ScriptedModel([small, "done", small, "done"]), tools=[refund]))
    first = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run.id
    execute(runtime, first, "t")
    with runtime.db.write() as tx:
        replayed = replay_in(tx, first, execute_tools=True, settings=Settings()).run.id

    assert execute(runtime, replayed, "t").end is End.COMPLETED
    assert made == [1, 1]


@pytest.mark.parametrize("execute_tools", [True, False])
def test_a_replay_that_makes_another_call_diverges(
    process: Callable[..., Runtime], asking: list[Any], execute_tools: bool
) -> None:
    """There is no decision about it."""
    first_calls, other_calls = Calls(("refund", {"eur": 5})), Calls(("refund", {"eur": 500}))
    team = Team(id="t", model=ScriptedModel([first_calls, "done", other_calls]), tools=asking)
    runtime = process(team)
    first = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run.id
    execute(runtime, first, "t")
    with runtime.db.read() as tx:
        (call,) = pending_calls.of_run(tx, first)
    decide(runtime.db, first, [Decision(call.id, "approve")])
    execute(runtime, first, "t")
    with runtime.db.write() as tx:
        replayed = replay_in(tx, first, execute_tools=execute_tools, settings=Settings()).run.id

    outcome = execute(runtime, replayed, "t")

    assert (outcome.end, outcome.detail) == (End.FAILED, "replay_diverged")


def test_a_decision_waits_for_workers_that_know_it(process: Callable[..., Runtime], asking: list[Any]) -> None:
    """A worker of an older version would make the call without it. Nothing is written."""
    runtime = process(Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5}))]), tools=asking))
    run_id = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run.id
    execute(runtime, run_id, "t")
    with runtime.db.write() as tx:
        (call,) = pending_calls.of_run(tx, run_id)
        teams.announce(tx, worker="old", versions={"t": "1"}, queues=["runs"])
        tx.execute(update(teams_table).where(teams_table.c.worker == "old").values(contract=1))

    with pytest.raises(WorkersTooOld):
        decide(runtime.db, run_id, [Decision(call.id, "approve")])

    with runtime.db.read() as tx:
        assert pending_calls.of_run(tx, run_id) == [call]
        run = runs.get(tx, run_id, principal=SERVICE)
    assert run is not None
    assert run.status is Status.PAUSED


def test_a_handle_waits_for_the_pause_and_decides(process: Callable[..., Runtime], asking: list[Any]) -> None:
    """As a service does that has the package and no HTTP."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5})), "done"]), tools=asking)
    runtime = process(team)
    db = Db(runtime.db._url)
    run = enqueue(runtime.db, RunOrder("t", "hi", session_id="s", user_id="u"), settings=Settings()).run
    execute(runtime, run.id, "t")
    handle = RunHandle(db, run.id, "s")

    waiting = handle.wait(timeout=60)
    assert [call.tool for call in waiting.pending] == ["refund"]
    decided = handle.decide([Decision(waiting.pending[0].id, "approve")], approver="ada")
    db.close()

    assert decided.status is Status.QUEUED
    assert execute(runtime, run.id, "t").end is End.COMPLETED


def test_an_export_has_the_decisions(script_db: Db, asking: list[Any]) -> None:
    """They are of the user; erasing the session erases them."""
    team = Team(id="t", model=ScriptedModel([Calls(("refund", {"eur": 5}))]), tools=asking, db=script_db)
    output = team.run("hi", session_id="s", user_id="u")

    lines = [line for line in export(script_db.runtime.db, "u", principal=SERVICE) if line["type"] == "pending_call"]
    assert [(line["tool"], line["run_id"]) for line in lines] == [("refund", output.run_id)]
    team.delete_session("s", user_id="u")
    assert calls_of(script_db, output.run_id) == []
