"""Look at a batch, pause it, let it go on, cancel it, try again what failed; each at once, whatever it is at."""

from dataclasses import replace

from worker.batches.capacity import pause_reason
from worker.batches.feed import Send, stop_runs
from worker.domain.batch import Batch, BatchStatus, Item, PausedBy, order_to_json
from worker.domain.principal import Principal
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound
from worker.store import batch_items, batches
from worker.store.batches import LockedBatch
from worker.store.engine import Database, Transaction


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
) -> list[Item]:
    """Return up to *limit* items behind number *after*; with *texts* the old and the new outputs.

    Raises:
        BatchNotFound
    """
    get(db, batch_id, principal=principal)
    with db.read() as tx:
        return batch_items.page(tx, batch_id, after=after, limit=limit, status=status, texts=texts)


def pause(db: Database, batch_id: str, *, principal: Principal) -> Batch:
    """Begin no more items; those in flight go on. Raises BatchNotFound, BatchConflict."""
    with db.write() as tx:
        held = _held(tx, batch_id, principal)
        if held.batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=held.batch.status, action="paused")
        if held.batch.status is not BatchStatus.PAUSED:
            batches.set_status(tx, batch_id, BatchStatus.PAUSED, paused_by=PausedBy.REQUEST)
        return _now(tx, batch_id)


def resume(
    db: Database,
    batch_id: str,
    *,
    principal: Principal,
    budget_tokens: int | None = None,
    budget_cost: float | None = None,
) -> Batch:
    """Go on with a paused batch: after its canary this is the yes. A budget that is used up has to be raised.

    Raises:
        BatchNotFound, BatchConflict, BatchInvalid
    """
    with db.write() as tx:
        held = _held(tx, batch_id, principal)
        batch = held.batch
        if batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=batch.status, action="resumed")
        limits = batch.order.limits
        tokens = limits.budget_tokens if budget_tokens is None else budget_tokens
        cost = limits.budget_cost if budget_cost is None else budget_cost
        if cost is not None and not batch.order.prices:
            raise BatchInvalid(field="budget", problem="is in money, and no prices were known when it was ordered")
        order = replace(batch.order, limits=replace(limits, budget_tokens=tokens, budget_cost=cost))
        if batch.paused_by is PausedBy.BUDGET:
            would_be = replace(held, batch=replace(batch, order=order, status=BatchStatus.RUNNING))
            if pause_reason(would_be) is PausedBy.BUDGET:
                raise BatchInvalid(field="budget", problem="is used up: name a higher one to resume it")
        canary = None if batch.paused_by is PausedBy.CANARY else batch.canary
        batches.change(tx, batch_id, spec=order_to_json(order), canary=canary)
        if batch.status is BatchStatus.PAUSED:
            batches.set_status(tx, batch_id, BatchStatus.CREATED if held.open else BatchStatus.RUNNING)
        return _now(tx, batch_id)


def cancel(db: Database, batch_id: str, *, principal: Principal, send: Send) -> Batch:
    """Begin no more items, and cancel the runs of those in flight; a batch that has ended stays as it is.

    Raises:
        BatchNotFound
    """
    with db.write() as tx:
        held = _held(tx, batch_id, principal)
        if not held.batch.status.terminal:
            batches.set_status(tx, batch_id, BatchStatus.CANCELLED)
    stop_runs(db, batch_id, send=send)
    return get(db, batch_id, principal=principal)


def retry(db: Database, batch_id: str, *, principal: Principal) -> Batch:
    """Have the items that failed, diverged or were cancelled begun again. Raises BatchNotFound, BatchConflict."""
    with db.write() as tx:
        held = _held(tx, batch_id, principal)
        if held.open or held.batch.status is BatchStatus.CANCELLED:
            raise BatchConflict(batch_id=batch_id, status=held.batch.status, action="tried again")
        if again := batch_items.take_back(tx, batch_id):
            batches.take_back(tx, held, again)
            if held.batch.status is not BatchStatus.PAUSED:
                batches.set_status(tx, batch_id, BatchStatus.RUNNING)
        return _now(tx, batch_id)


def _held(tx: Transaction, batch_id: str, principal: Principal) -> LockedBatch:
    """Take the lock of a batch that *principal* may see."""
    held = batches.lock(tx, batch_id) if batches.get(tx, batch_id, principal=principal) is not None else None
    if held is None:
        raise BatchNotFound(batch_id=batch_id)
    return held


def _now(tx: Transaction, batch_id: str) -> Batch:
    held = batches.lock(tx, batch_id)
    assert held is not None
    return held.batch
