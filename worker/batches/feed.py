"""Bring a batch on, a step at a time: write its items down, count those that have ended, begin the next.

Each worker that executes items does so with each sweep; who has the batch's lock does it, the others pass by. Whatever
is broken off at any point is gone on with by the next step, since each writes all that it did, or nothing.
"""

from collections.abc import Callable, Iterable

from worker import clock
from worker.batches.capacity import capacity, pause_reason
from worker.batches.kinds import BEGIN
from worker.batches.plan import plan
from worker.domain.batch import Batch, BatchStatus, Outcome
from worker.domain.dispatch import Dispatch
from worker.errors import DatabaseUnavailable, QueueFull, RunNotFound, SessionNotFound, TeamSessionsError
from worker.observe import logs, metrics
from worker.process.runtime import Runtime
from worker.runs import cancel
from worker.settings import Settings
from worker.store import batch_items, batches
from worker.store.batch_items import PendingItem
from worker.store.batches import Ended
from worker.store.engine import Database, Transaction, translated

TOGETHER = 10  # items that are begun in one transaction, which holds the locks of so many sessions
STEP_S = 0.8  # a step ends then, so that the sweep comes to its other duties

log = logs.get(__name__)
Send = Callable[[Iterable[Dispatch]], object]


def feed(runtime: Runtime) -> None:
    """Bring every unfinished batch on."""
    with runtime.db.read() as tx:
        unfinished = batches.unfinished(tx)
    for batch_id in unfinished:
        try:
            step(runtime.db, batch_id, settings=runtime.settings, send=runtime.dispatcher.send)
        except Exception as error:  # noqa: BLE001 - whatever it was, the others go on, and the next sweep tries again
            log.warning("a batch could not be brought on", batch_id=batch_id, error=error)


def step(db: Database, batch_id: str, *, settings: Settings, send: Send) -> None:
    """Bring one batch on, as far as it goes within a moment."""
    until = clock.monotonic() + STEP_S
    while plan(db, batch_id):
        if clock.monotonic() > until:
            return
    batch = _count_ended(db, batch_id)
    if batch is not None and batch.status is BatchStatus.CANCELLED:
        stop_runs(db, batch_id, send=send)
    while (ready := _begin_some(db, batch_id, settings=settings)) is not None:
        send(ready)
        if clock.monotonic() > until:
            return


def stop_runs(db: Database, batch_id: str, *, send: Send) -> None:
    """Cancel the runs of a batch that are in flight."""
    with db.read() as tx:
        in_flight = batch_items.runs_in_flight(tx, batch_id)
    for run_id in in_flight:
        with db.write() as tx:
            ready = cancel.end_or_ask(tx, run_id)
        send(ready)


def _count_ended(db: Database, batch_id: str) -> Batch | None:
    """Count the items that have ended, and conclude the batch if they were the last; return how it stood before."""
    with db.write() as tx:
        held = batches.lock(tx, batch_id, wait=False)
        if held is None:
            return None
        ended: list[Ended] = []
        if held.batch.in_flight:
            given_up = held.batch.status is BatchStatus.CANCELLED
            ended = batch_items.ended_runs(tx, batch_id)
            ended += batch_items.ended_refreshes(tx, batch_id, given_up=given_up)
            batch_items.end(tx, batch_id, ended)
            batches.count_ended(tx, held, ended)
        _conclude(tx, batch_id)
    _observe(held.batch, begun=0, ended=ended)
    return held.batch


def _conclude(tx: Transaction, batch_id: str) -> None:
    """Note that a batch has come to its end, or that it waits for somebody."""
    held = batches.lock(tx, batch_id)
    assert held is not None
    batch = held.batch
    if batch.status is BatchStatus.CANCELLED and not batch.in_flight:
        batches.change(tx, batch_id, finished_at=held.now)
    elif not held.open and batch.ended >= batch.planned and not batch.status.terminal:
        batches.set_status(tx, batch_id, BatchStatus.COMPLETED)
        batches.change(tx, batch_id, finished_at=held.now)
    elif (why := pause_reason(held)) is not None:
        batches.set_status(tx, batch_id, BatchStatus.PAUSED, paused_by=why)


def _begin_some(db: Database, batch_id: str, *, settings: Settings) -> list[Dispatch] | None:
    """Begin a few items; return what is to be sent. None: there is no room for more, or none is left."""
    with db.write() as tx:
        held = batches.lock(tx, batch_id, wait=False)
        if held is None:
            return None
        waiting = batch_items.pending(tx, batch_id, limit=min(TOGETHER, capacity(held)))
        ready: list[Dispatch] = []
        ended: list[Ended] = []
        begun = 0
        for item in waiting:
            try:
                sent, done = _begin(tx, held.batch, item, settings)
            except QueueFull:  # later, when there is room
                break
            begun += 1
            ready += sent
            ended += done
        if not begun:
            return None
        batches.count_fed(tx, held, begun)
        if ended:
            batch_items.end(tx, batch_id, ended)
            counted = batches.lock(tx, batch_id)
            assert counted is not None
            batches.count_ended(tx, counted, ended)
    _observe(held.batch, begun=begun, ended=ended)
    return ready


def _observe(batch: Batch, *, begun: int, ended: list[Ended]) -> None:
    """Count what was committed."""
    metrics.BATCH_ITEMS_BEGUN.labels(batch.order.kind).inc(begun)
    for item in ended:
        metrics.BATCH_ITEMS_ENDED.labels(batch.order.kind, item.outcome).inc()


def _begin(
    tx: Transaction, batch: Batch, item: PendingItem, settings: Settings
) -> tuple[Iterable[Dispatch], list[Ended]]:
    """Begin one item; where it cannot be begun, it has ended with that."""
    code, outcome = None, Outcome.COMPLETED
    try:
        with translated(), tx.begin_nested():
            begun = BEGIN[batch.order.kind](tx, item, batch.order, settings)
            batch_items.begin(tx, batch.id, item.number, run_id=begun.run_id, base_version=begun.base_version)
        return begun.dispatches, [Ended(item.number, outcome)] if begun.done else []
    except (QueueFull, DatabaseUnavailable):
        raise
    except (RunNotFound, SessionNotFound):
        outcome = Outcome.GONE
    except TeamSessionsError as error:
        code, outcome = error.code, Outcome.FAILED
    except Exception as error:  # noqa: BLE001 - a fault in us: this item has failed, the batch goes on
        log.error("an item could not be begun", batch_id=batch.id, item=item.number, error=error)
        code, outcome = TeamSessionsError.code, Outcome.FAILED
    batch_items.begin(tx, batch.id, item.number)
    return (), [Ended(item.number, outcome, error_code=code)]
