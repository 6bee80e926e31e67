"""Try a failed or cancelled run again: a new run at the end of its session, with `retry_of`."""

from worker.domain import Origin, Principal, Priority, Run, Status, order_again
from worker.errors import RunNotFound, RunNotRetryable
from worker.runs.enqueue import Accepted, count, enqueue_in
from worker.runs.queue_limits import QueueLimits
from worker.settings import Settings
from worker.store import Database, Transaction, runs, sessions


def retry(
    db: Database,
    run_id: str,
    *,
    settings: Settings,
    queue_limits: QueueLimits,
    principal: Principal,
    user_id: str | None = None,
    idempotency_key: str | None = None,
) -> Accepted:
    """Accept a run with the order of an earlier one; a retry of a replay is a replay. Send its `dispatches` afterwards.

    Raises:
        RunNotFound, RunNotRetryable, IdempotencyConflict, QueueFull, UserForbidden
    """
    with db.read() as tx:
        run = runs.get(tx, run_id, principal=principal, user_id=user_id)
    if run is None:
        raise RunNotFound(run_id=run_id)
    if run.status not in (Status.FAILED, Status.CANCELLED):  # both are terminal, so the run stays so
        requirement = "Only a failed or cancelled run can be retried"
        raise RunNotRetryable(run_id=run_id, status=run.status, requirement=requirement)
    queue_limits.check(run.user_id, idempotency_key=idempotency_key)
    with db.write() as tx:
        accepted = again(tx, run, settings=settings, priority=run.priority, idempotency_key=idempotency_key)
    count(accepted)
    return accepted


def again(
    tx: Transaction, run: Run, *, settings: Settings, priority: Priority, idempotency_key: str | None = None
) -> Accepted:
    """Write a run that repeats *run* at the end of its session, in the caller's transaction.

    Raises:
        RunNotFound, IdempotencyConflict, QueueFull
    """
    if sessions.lock_of_run(tx, run.id) is None:
        raise RunNotFound(run_id=run.id)  # erased since it was read: a retry must not bring its session back
    origin = Origin(retry_of=run.id, replay=run.replay)
    order = order_again(run, priority=priority)
    return enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key, origin=origin)
