"""A failed or cancelled run again."""

import pytest

from tests.support import look
from tests.support.life import end, take
from worker.domain import SERVICE, Priority, RunError, RunOrder, Status
from worker.errors import IdempotencyConflict, RunNotFound, RunNotRetryable
from worker.runs.cancel import cancel
from worker.runs.enqueue import Accepted, enqueue
from worker.runs.finish import Ending
from worker.runs.queue_limits import QueueLimits
from worker.runs.retry import retry
from worker.settings import Settings
from worker.store import Database
from worker.store.erasure import erase_session_of_run


def again(db: Database, run_id: str, *, key: str | None = None) -> Accepted:
    place = {"queue_limits": QueueLimits(db, Settings()), "principal": SERVICE, "idempotency_key": key}
    return retry(db, run_id, settings=Settings(), **place)


def test_a_retry_is_a_new_run_at_the_sessions_end(db: Database) -> None:
    """With the input, the metadata, the priority and the timeout of the first, which stays as it is."""
    order = RunOrder(
        "t", "hello", session_id="s", user_id="u", metadata={"a": 1}, priority=Priority.BACKGROUND, timeout=9.5
    )
    first = enqueue(db, order, settings=Settings()).run
    end(db, take(db, first.id), Ending(Status.FAILED, error=RunError("model_refused", "no")))
    waiting = enqueue(db, RunOrder("t", "next", session_id="s", user_id="u"), settings=Settings()).run

    second = again(db, first.id, key="k")

    row = look.row(db, second.run.id)
    assert (row.position, row.retry_of, row.input, row.metadata) == (3, first.id, "hello", {"a": 1})
    assert (row.priority, row.timeout_s, row.status) == ("background", 9.5, "queued")
    assert second.dispatches == (), "it waits behind the run that was queued before"
    assert again(db, first.id, key="k").run.id == second.run.id
    assert look.row(db, first.id).status == "failed"
    assert look.row(db, waiting.id).status == "queued"


def test_only_a_failed_or_cancelled_run_can_be_retried(db: Database) -> None:
    """A queued, running or completed one cannot; a cancelled one can."""
    run = enqueue(db, RunOrder("t", "hello", session_id="s", user_id="u"), settings=Settings()).run
    with pytest.raises(RunNotRetryable, match="queued"):
        again(db, run.id)
    claim = take(db, run.id)
    with pytest.raises(RunNotRetryable, match="running"):
        again(db, run.id)
    end(db, claim, Ending(Status.COMPLETED))
    with pytest.raises(RunNotRetryable, match="completed"):
        again(db, run.id)
    cancelled = enqueue(db, RunOrder("t", "hello", session_id="s", user_id="u"), settings=Settings()).run
    cancel(db, cancelled.id)

    second = again(db, cancelled.id)

    assert [dispatch.ids["run_id"] for dispatch in second.dispatches] == [second.run.id]


def test_a_retry_does_not_bring_an_erased_session_back(db: Database) -> None:
    """Neither by its id nor under a key that another retry has used."""
    runs = [enqueue(db, RunOrder("t", "hello", session_id=s, user_id="u"), settings=Settings()).run for s in ("s", "r")]
    for run in runs:
        cancel(db, run.id)
    again(db, runs[0].id, key="k")
    with pytest.raises(IdempotencyConflict):
        again(db, runs[1].id, key="k")
    with db.write() as tx:
        erase_session_of_run(tx, runs[0].id)

    with pytest.raises(RunNotFound):
        again(db, runs[0].id, key="k")
