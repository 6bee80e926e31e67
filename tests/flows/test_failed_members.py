"""A member whose model fails, in a whole run: it is retried first, and its leader is told once that is over."""

from collections.abc import Callable

import pytest

from tests.support import look
from tests.support.outcomes import execute
from worker import Agent, ScriptedModel, Team
from worker.domain import RunOrder, open_calls
from worker.errors import ModelUnavailable
from worker.models.scripted import Calls
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.store.tables import runs

Process = Callable[..., Runtime]
AWAY = ModelUnavailable(model="m", reason="503")
TO_A = Calls(("delegate_task_to_member", {"member_id": "a", "task": "look"}))


@pytest.mark.parametrize("on_member_failure", ["tell", "fail"])
def test_a_member_is_retried_before_its_leader_is_told(process: Process, on_member_failure: str) -> None:
    """As often as a run's own model; then the delegation has a result, and the run completes, or fails if asked to."""
    leader, member = ScriptedModel([TO_A, "Without a."]), ScriptedModel([AWAY, AWAY, AWAY])
    team = Team(id="t", model=leader, members=[Agent(id="a", model=member)], on_member_failure=on_member_failure)  # type: ignore[arg-type]  # both literals
    runtime = process(team, model_retries=1)
    run_id = enqueue(runtime.db, RunOrder("t", "hello"), settings=runtime.settings).run.id

    ends = []
    for _ in range(3):
        ends.append(execute(runtime, run_id, "t"))
        with runtime.db.write() as tx:
            tx.execute(runs.update().values(not_before=None))
        if look.row(runtime.db, run_id).status in ("completed", "failed"):
            break

    row = look.row(runtime.db, run_id)
    assert ends[:-1] == ["waits: model_unavailable"] * (len(ends) - 1)
    assert len(ends) > 1, "it was retried"
    assert not open_calls(look.log(runtime.db, run_id))
    if on_member_failure == "tell":
        assert (row.status, row.output) == ("completed", "Without a.")
        assert "member 'a' failed. Model 'm' could not be reached" in look.log(runtime.db, run_id)[-2].content
    else:
        assert (row.status, row.error_code) == ("failed", "model_unavailable")
