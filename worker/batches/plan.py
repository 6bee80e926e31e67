"""Write the items that a batch's filter finds, in chunks, and close the batch after the last item."""

import math

from worker.domain import Batch, BatchStatus
from worker.store import Database, Transaction, batch_plan, batches

CHUNK = 2_000  # items written in one transaction


def plan(db: Database, batch_id: str) -> bool:
    """Write the next items that the batch's filter finds, and return whether there may be more."""
    with db.write() as tx:
        locked = batches.lock(tx, batch_id, wait=False)
        if locked is None or not locked.open or locked.batch.order.explicit_items or locked.batch.status.terminal:
            return False
        batch = locked.batch
        written = batch_plan.write_selected(
            tx,
            batch_id,
            batch.order,
            principal=locked.principal,
            after=locked.planned_key,
            first=batch.planned + 1,
            limit=CHUNK,
        )
        planned = batch.planned + written.count
        if written.count < CHUNK:
            close(tx, batch, planned=planned)
            return False
        batches.change(tx, batch_id, planned=planned, planned_key=written.last_key)
        return True


def close(tx: Transaction, batch: Batch, *, planned: int) -> None:
    """Record that all items are written. The batch starts to run, unless it was paused."""
    canary = canary_count(batch.order.canary, planned)
    batches.change(tx, batch.id, open=False, planned=planned, canary=canary)
    if batch.status is BatchStatus.CREATED:
        batches.set_status(tx, batch.id, BatchStatus.RUNNING)


def canary_count(canary: str | None, planned: int) -> int | None:
    """Return how many of *planned* items '10' or '1%' means, at least one; None: there is no canary."""
    if canary is None:
        return None
    count = math.ceil(planned * float(canary[:-1]) / 100) if canary.endswith("%") else int(canary)
    return max(1, min(count, planned))
