"""Read, pause, resume, cancel and retry a batch. Each takes effect at once."""

from dataclasses import replace

from worker.batches.capacity import pause_reason
from worker.batches.feed import Send, stop_runs
from worker.domain import Batch, BatchStatus, Budget, Item, PausedBy, Principal
from worker.domain.batch import order_to_json
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound
from worker.store import Database, LockedBatch, Page, Transaction, batch_items, batches


def get(db: Database, batch_id: str, *, principal: Principal) -> Batch:
    """Return a batch. Raises BatchNotFound."""
    with db.read() as tx:
        batch = batches.get(tx, batch_id, principal=principal)
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch


def items(
    db: Database,
    batch_id: str,
    *,
    principal: Principal,
    after: int = 0,
    limit: int = 50,
    status: str | None = None,
    texts: bool = False,
) -> Page[Item]:
    """Return up to *limit* items after number *after*, as many as fit into a page.

    With *texts* as `Result`, with the old and the new output.

    Raises:
        BatchNotFound
    """
    get(db, batch_id, principal=principal)
    with db.read() as tx:
        return batch_items.page(tx, batch_id, after=after, limit=limit, status=status, texts=texts)


def pause(db: Database, batch_id: str, *, principal: Principal) -> Batch:
    """Pause a batch: begin no more items. Items in flight continue. Raises BatchNotFound, BatchConflict."""
    with db.write() as tx:
        locked = _lock(tx, batch_id, principal)
        if locked.batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=locked.batch.status, action="paused")
        if locked.batch.status is not BatchStatus.PAUSED:
            batches.set_status(tx, batch_id, BatchStatus.PAUSED, paused_by=PausedBy.REQUEST)
        return _now(tx, batch_id)


def resume(db: Database, batch_id: str, *, principal: Principal, budget: Budget | None = None) -> Batch:
    """Resume a paused batch. After its canary, this approves all other items. A used-up budget must be raised.

    Raises:
        BatchNotFound, BatchConflict, BatchInvalid
    """
    with db.write() as tx:
        locked = _lock(tx, batch_id, principal)
        batch = locked.batch
        if batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=batch.status, action="resumed")
        old, raised = batch.order.budget, budget or Budget()
        new = Budget(tokens=raised.tokens or old.tokens, cost=raised.cost or old.cost)
        if new.cost is not None and not batch.order.prices:
            raise BatchInvalid(
                field="'budget'", problem="has a cost, but no prices were set when the batch was accepted"
            )
        order = replace(batch.order, budget=new)
        if batch.paused_by is PausedBy.BUDGET:
            resumed = replace(locked, batch=replace(batch, order=order, status=BatchStatus.RUNNING))
            if pause_reason(resumed) is PausedBy.BUDGET:
                raise BatchInvalid(field="'budget'", problem="is used up: name a higher one to resume the batch")
        canary = None if batch.paused_by is PausedBy.CANARY else batch.canary
        batches.change(tx, batch_id, spec=order_to_json(order), canary=canary)
        if batch.status is BatchStatus.PAUSED:
            batches.set_status(tx, batch_id, BatchStatus.CREATED if locked.open else BatchStatus.RUNNING)
        return _now(tx, batch_id)


def cancel(db: Database, batch_id: str, *, principal: Principal, send: Send) -> Batch:
    """Cancel a batch: begin no more items, and cancel the runs in flight. A batch that has ended does not change.

    Raises:
        BatchNotFound
    """
    with db.write() as tx:
        locked = _lock(tx, batch_id, principal)
        if not locked.batch.status.terminal:
            batches.set_status(tx, batch_id, BatchStatus.CANCELLED)
    stop_runs(db, batch_id, send=send)
    return get(db, batch_id, principal=principal)


def retry(db: Database, batch_id: str, *, principal: Principal) -> Batch:
    """Retry the items that failed, diverged or were cancelled. Raises BatchNotFound, BatchConflict."""
    with db.write() as tx:
        locked = _lock(tx, batch_id, principal)
        if locked.open or locked.batch.status is BatchStatus.CANCELLED:
            raise BatchConflict(batch_id=batch_id, status=locked.batch.status, action="tried again")
        if again := batch_items.requeue_unsuccessful(tx, batch_id):
            batches.uncount_ended(tx, locked, again)
            if locked.batch.status is not BatchStatus.PAUSED:
                batches.set_status(tx, batch_id, BatchStatus.RUNNING)
        return _now(tx, batch_id)


def _lock(tx: Transaction, batch_id: str, principal: Principal) -> LockedBatch:
    """Lock a batch that *principal* may see. Raises BatchNotFound."""
    locked = batches.lock(tx, batch_id) if batches.get(tx, batch_id, principal=principal) is not None else None
    if locked is None:
        raise BatchNotFound(batch_id=batch_id)
    return locked


def _now(tx: Transaction, batch_id: str) -> Batch:
    locked = batches.lock(tx, batch_id)
    assert locked is not None
    return locked.batch
