"""Write the items of a batch down: those that its filter finds, in pieces, or those that its caller names."""

import math

from worker.domain.batch import Batch, BatchStatus
from worker.store import batch_plan, batches
from worker.store.engine import Database, Transaction

PIECE = 2_000  # items that are written down in one transaction


def plan(db: Database, batch_id: str) -> bool:
    """Write the next items down that the batch's filter finds; tell whether there may be more."""
    with db.write() as tx:
        held = batches.lock(tx, batch_id, wait=False)
        if held is None or not held.open or held.batch.order.given or held.batch.status.terminal:
            return False
        batch, place = held.batch, {"first": held.batch.planned + 1, "limit": PIECE}
        written = batch_plan.write_selected(
            tx, batch_id, batch.order, principal=held.principal, after=held.planned_key, **place
        )
        planned = batch.planned + written.count
        if written.count < PIECE:
            close(tx, batch, planned=planned)
            return False
        batches.change(tx, batch_id, planned=planned, planned_key=written.last_key)
        return True


def close(tx: Transaction, batch: Batch, *, planned: int) -> None:
    """Note that all items are written down; a batch that nobody has paused runs from now on."""
    canary = canary_of(batch.order.canary, planned)
    batches.change(tx, batch.id, open=False, planned=planned, canary=canary)
    if batch.status is BatchStatus.CREATED:
        batches.set_status(tx, batch.id, BatchStatus.RUNNING)


def canary_of(said: str | None, planned: int) -> int | None:
    """Return how many of so many items are '10' or '1%', one at least; None: no canary is wanted."""
    if said is None:
        return None
    count = math.ceil(planned * float(said[:-1]) / 100) if said.endswith("%") else int(said)
    return max(1, min(count, planned))
