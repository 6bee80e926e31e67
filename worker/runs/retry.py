"""Try a failed or cancelled run again: a new run at the end of its session, with `retry_of`."""

from worker.domain.principal import Principal
from worker.domain.run import Status
from worker.errors import RunNotFound, RunNotRetryable
from worker.runs.enqueue import Accepted, Order, enqueue_in
from worker.settings import Settings
from worker.store import runs
from worker.store.engine import Database


def retry(
    db: Database,
    run_id: str,
    *,
    settings: Settings,
    principal: Principal,
    user_id: str | None = None,
    idempotency_key: str | None = None,
) -> Accepted:
    """Accept a run with the input of an earlier one; send what is `ready` afterwards.

    Raises:
        RunNotFound, RunNotRetryable, IdempotencyConflict, QueueFull, UserForbidden
    """
    with db.write() as tx:
        run = runs.get(tx, run_id, principal=principal, user_id=user_id)
        if run is None:
            raise RunNotFound(run_id=run_id)
        if run.status not in (Status.FAILED, Status.CANCELLED):
            raise RunNotRetryable(run_id=run_id, status=run.status)
        order = Order(run.team, run.input, run.session_id, run.user_id, run.metadata, retry_of=run_id)
        return enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key)
