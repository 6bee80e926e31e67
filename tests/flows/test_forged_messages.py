"""A message decides nothing: whose run it is stands in the row. Anyone who can write to a queue can send any ids."""

from collections.abc import Callable
from datetime import timedelta

from tests.support import look
from tests.support.condensing import converse
from tests.support.life import accept
from tests.support.outcomes import execute, refresh
from worker import ScriptedModel, Team, clock
from worker.process.runtime import Runtime
from worker.store import Database, summary_jobs

Process = Callable[..., Runtime]


def test_a_message_cannot_give_a_run_to_another_team(process: Process, db: Database) -> None:
    """Neither to one that its worker serves, nor can it delay the run by naming one that nobody serves."""
    other = ScriptedModel([])
    runtime = process(Team(id="t", model=ScriptedModel(["Done."])), Team(id="other", model=other))
    run_id = accept(db, "hello").run.id
    before = look.row(db, run_id)

    outcomes = [execute(runtime, run_id, "other"), execute(runtime, run_id, "nobody")]
    after = look.row(db, run_id)

    assert outcomes == ["OtherTeam", "PutBack"]
    assert after == before
    assert execute(runtime, run_id, "t") == "completed"


def test_a_message_cannot_give_a_summary_to_another_team(process: Process, db: Database) -> None:
    """As for runs: its model is not asked, and the job waits for its own team."""
    runtime = process(Team(id="t"), Team(id="other", model=ScriptedModel([])))
    session_pk = converse(db, 2)
    with db.write() as tx:
        summary_jobs.request_now(tx, session_pk, through_seq=2)

    outcomes = [refresh(runtime, session_pk, "other"), refresh(runtime, session_pk, "nobody")]

    assert outcomes == ["nothing to do", "not served"]
    with db.write() as tx:
        assert summary_jobs.claim(tx, session_pk, team="t", owner="me", ttl_s=60) is not None


def test_a_time_to_come_in_a_message_does_not_make_others_lost(process: Process, db: Database) -> None:
    """A delivery that arrives tells that those before it are lost: it cannot have been sent after its arrival."""
    runtime = process(Team(id="t", model=ScriptedModel(["Done."])))
    run_id = accept(db, "hello").run.id

    execute(runtime, run_id, "t", sent_at=clock.now() + timedelta(days=365))

    assert runtime.sweep._newest_claimed["runs"] <= look.row(db, run_id).finished_at
