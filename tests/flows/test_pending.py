"""Runs that wait for decisions: a pending call stops no other one, and no model call is made twice."""

import threading
import time
from typing import Any

import pytest

from tests.support.asking import results_of, row_of
from tests.support.system import wait_until
from worker import Agent, Calls, Limits, ScriptedModel, Team
from worker.db import Db
from worker.domain import SERVICE, Decision, Status
from worker.errors import (
    AlreadyDecided,
)
from worker.runs.decide import decide
from worker.store import pending_calls


def test_a_script_decides_about_each_kind(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """With the names of Agno. A call that waits for nothing is made at once."""
    steps = Calls(("look", {"q": "a"}), ("refund", {"eur": 5}), ("ship", {"order": "7"}), ("run_sql", {"query": "q"}))
    model = ScriptedModel([steps, "done"])
    team = Team(id="t", model=model, tools=asking, db=script_db)

    output = team.run("hi", session_id="s")

    assert output.is_paused
    assert output.status is Status.PAUSED
    assert made == [("look", "a")]
    assert [(c.kind, c.tool_name, c.tool_args) for c in output.active_requirements] == [
        ("confirmation", "refund", {"eur": 5}),
        ("input", "ship", {"order": "7"}),
        ("external", "run_sql", {"query": "q"}),
    ]
    row = row_of(script_db, output.run_id)
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
    assert sorted(results_of(script_db, output.run_id)) == ["3 rows", "found a", "refunded 5", "shipped 7 to Rome"]
    assert len(model.requests) == 2


def test_the_model_is_not_asked_for_what_the_user_gives(script_db: Db, asking: list[Any]) -> None:
    """The schema that it gets lacks these arguments, and wrong ones of its own are an error at once."""
    model = ScriptedModel([Calls(("ship", {"wrong": 1}), ("refund", {"eur": "no"})), "done"])
    team = Team(id="t", model=model, tools=asking, db=script_db)

    output = team.run("hi", session_id="s")

    ship = next(t for t in model.requests[0].tools if t.name == "ship")
    assert list(ship.parameters["properties"]) == ["order"]
    assert not output.is_paused
    assert all(text.startswith("Error: the arguments of") for text in results_of(script_db, output.run_id))


def test_each_decision_counts_at_once_and_paused_time_does_not(
    script_db: Db, asking: list[Any], made: list[Any]
) -> None:
    """The run goes on with what is decided, and pauses again. A double click is one; another decision is refused."""
    model = ScriptedModel([Calls(("refund", {"eur": 5}), ("refund", {"eur": 7})), "done"])
    team = Team(id="t", model=model, tools=asking, db=script_db, limits=Limits(seconds=1.5))
    output = team.run("hi", session_id="s")
    first, second = (call.id for call in output.active_requirements)
    time.sleep(2)  # longer than the run may take

    output = team.continue_run(run_id=output.run_id, decisions=[Decision(first, "approve")])
    assert output.is_paused
    assert [call.id for call in output.active_requirements] == [second]
    assert [effect[:2] for effect in made] == [("refund", 5)]
    run, _ = decide(script_db.runtime.db, output.run_id, [Decision(first, "approve")])
    assert run.status is Status.PAUSED
    with pytest.raises(AlreadyDecided, match="approve"):
        decide(script_db.runtime.db, output.run_id, [Decision(first, "reject")])
    output = team.continue_run(run_id=output.run_id, decisions=[Decision(second, "reject", note="too much")])

    assert output.content == "done"
    assert len(made) == 1
    assert len(model.requests) == 2
    assert results_of(script_db, output.run_id)[-1] == "Error: this call was not made: it was rejected. too much"


def test_members_pause_and_their_siblings_work_on(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """The leader's own calls, two members in parallel, changed arguments; each model is asked once for each reply."""

    def member(request: Any) -> Any:
        asked = any(m.role == "assistant" for m in request.messages)
        return "A is done" if asked else Calls(("refund", {"eur": 9}))

    a, b = ScriptedModel([member, member]), ScriptedModel(["B is done"])
    delegations = [("delegate_task_to_member", {"member_id": id, "task": id}) for id in "ab"]
    lead = ScriptedModel([Calls(*delegations, ("run_sql", {"query": "q"})), "all done"])
    members = [Agent(id="a", role="x", model=a, tools=asking), Agent(id="b", role="y", model=b)]
    team = Team(id="t", model=lead, tools=asking, members=members, db=script_db)

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
    assert '(It was called with other arguments: {"eur": 3}) refunded 3' in results_of(script_db, output.run_id)
    assert (len(a.requests), len(b.requests), len(lead.requests)) == (2, 1, 2)


def test_a_decision_that_comes_before_the_pause_is_not_lost(script_db: Db, asking: list[Any], made: list[Any]) -> None:
    """Somebody decides while another call still works."""
    goes_on = threading.Event()

    def slow() -> str:
        """Take long."""
        assert goes_on.wait(30)
        return "slow"

    model = ScriptedModel([Calls(("refund", {"eur": 2}), ("slow", {})), "done"])
    team = Team(id="t", model=model, tools=[*asking, slow], db=script_db)
    outputs: list[Any] = []
    thread = threading.Thread(target=lambda: outputs.append(team.run("hi", session_id="s")))
    thread.start()
    run_id, call_id = wait_until(lambda: _one_waits(script_db), description="a call waits") or ("", "")
    decide(script_db.runtime.db, run_id, [Decision(call_id, "approve")])
    goes_on.set()
    thread.join(30)

    assert [output.content for output in outputs] == ["done"]
    assert len(made) == 1
    assert len(model.requests) == 2


def _one_waits(script_db: Db) -> tuple[str, str] | None:
    with script_db.runtime.db.read() as tx:
        page = pending_calls.page(tx, pending_calls.PendingFilters(), principal=SERVICE, after=None, limit=5)
    return (page[0].run_id, page[0].id) if page else None
