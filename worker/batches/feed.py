"""Advance batches step by step: write their items, count those that have ended, and begin the next ones.

Every worker that executes items does this in each sweep. The worker that gets a batch's lock does the step; the others
skip the batch. Each transaction leaves the batch consistent, so the next step can continue after a crash.
"""

from collections.abc import Callable, Iterable

from worker import clock
from worker.batches.capacity import capacity, pause_reason
from worker.batches.kinds import BEGIN
from worker.batches.plan import plan
from worker.domain import Batch, BatchStatus, Dispatch, ItemOutcome
from worker.errors import DatabaseUnavailable, QueueFull, RunNotFound, SessionNotFound, TeamSessionsError
from worker.observe import logs, metrics
from worker.process.runtime import Runtime
from worker.runs import cancel
from worker.settings import Settings
from worker.store import Database, PendingItem, Transaction, batch_items, batches
from worker.store.batches import Ended
from worker.store.engine import translated

CHUNK = 10  # items begun in one transaction, which locks all their sessions
STEP_S = 0.8  # the time limit of a step, so that the sweep can continue with its other tasks

log = logs.get(__name__)
Send = Callable[[Iterable[Dispatch]], object]


def feed(runtime: Runtime) -> None:
    """Advance every unfinished batch by one step."""
    with runtime.db.read() as tx:
        unfinished = batches.unfinished(tx)
    for batch_id in unfinished:
        try:
            step(runtime.db, batch_id, settings=runtime.settings, send=runtime.dispatcher.send)
        except Exception as error:  # noqa: BLE001 - the other batches continue, and the next sweep tries again
            log.warning("batch step failed", batch_id=batch_id, error=error)


def step(db: Database, batch_id: str, *, settings: Settings, send: Send) -> None:
    """Advance one batch, for at most about `STEP_S` seconds."""
    until = clock.monotonic() + STEP_S
    while plan(db, batch_id):
        if clock.monotonic() > until:
            return
    batch = _count_ended(db, batch_id)
    if batch is not None and batch.status is BatchStatus.CANCELLED:
        stop_runs(db, batch_id, send=send)
    while (dispatches := _begin_some(db, batch_id, settings=settings)) is not None:
        send(dispatches)
        if clock.monotonic() > until:
            return


def stop_runs(db: Database, batch_id: str, *, send: Send) -> None:
    """Cancel the runs of a batch that are in flight."""
    with db.read() as tx:
        in_flight = batch_items.runs_in_flight(tx, batch_id)
    for run_id in in_flight:
        with db.write() as tx:
            dispatches = cancel.end_or_ask(tx, run_id)
        send(dispatches)


def _count_ended(db: Database, batch_id: str) -> Batch | None:
    """Count the items that have ended, and end the batch after the last one. Return the batch as it was before that.

    None: the batch is gone, or another process has its lock.
    """
    with db.write() as tx:
        locked = batches.lock(tx, batch_id, wait=False)
        if locked is None:
            return None
        ended: list[Ended] = []
        if locked.batch.in_flight:
            is_cancelled = locked.batch.status is BatchStatus.CANCELLED
            ended = batch_items.ended_runs(tx, batch_id)
            ended += batch_items.ended_refreshes(tx, batch_id, given_up=is_cancelled)
            batch_items.end(tx, batch_id, ended)
            batches.count_ended(tx, locked, ended)
        _finish_or_pause(tx, batch_id)
    _observe(locked.batch, started=0, ended=ended)
    return locked.batch


def _finish_or_pause(tx: Transaction, batch_id: str) -> None:
    """End the batch if all its items have ended; pause it if there is a reason to."""
    locked = batches.lock(tx, batch_id)
    assert locked is not None
    batch = locked.batch
    if batch.status is BatchStatus.CANCELLED and not batch.in_flight:
        batches.change(tx, batch_id, finished_at=locked.now)
    elif not locked.open and batch.ended >= batch.planned and not batch.status.terminal:
        batches.set_status(tx, batch_id, BatchStatus.COMPLETED)
        batches.change(tx, batch_id, finished_at=locked.now)
    elif (reason := pause_reason(locked)) is not None:
        batches.set_status(tx, batch_id, BatchStatus.PAUSED, paused_by=reason)


def _begin_some(db: Database, batch_id: str, *, settings: Settings) -> list[Dispatch] | None:
    """Begin a few items, and return what to send. None: no item may begin now, or none is left."""
    with db.write() as tx:
        locked = batches.lock(tx, batch_id, wait=False)
        if locked is None:
            return None
        is_full = locked.batch.in_flight >= locked.batch.order.window
        paused = batch_items.count_paused(tx, batch_id) if is_full else 0
        pending = batch_items.pending(tx, batch_id, limit=min(CHUNK, capacity(locked, paused=paused)))
        dispatches: list[Dispatch] = []
        ended: list[Ended] = []
        started = 0
        for item in pending:
            try:
                item_dispatches, item_ended = _begin(tx, locked.batch, item, settings)
            except QueueFull:  # a later step begins it
                break
            started += 1
            dispatches += item_dispatches
            ended += item_ended
        if not started:
            return None
        batches.count_fed(tx, locked, started)
        if ended:
            batch_items.end(tx, batch_id, ended)
            counted = batches.lock(tx, batch_id)
            assert counted is not None
            batches.count_ended(tx, counted, ended)
    _observe(locked.batch, started=started, ended=ended)
    return dispatches


def _observe(batch: Batch, *, started: int, ended: list[Ended]) -> None:
    """Count the committed changes in the metrics."""
    metrics.BATCH_ITEMS_BEGUN.labels(batch.order.kind).inc(started)
    for item in ended:
        metrics.BATCH_ITEMS_ENDED.labels(batch.order.kind, item.outcome).inc()


def _begin(
    tx: Transaction, batch: Batch, item: PendingItem, settings: Settings
) -> tuple[Iterable[Dispatch], list[Ended]]:
    """Begin one item. An item that cannot begin ends, and records why."""
    code, outcome = None, ItemOutcome.COMPLETED
    try:
        with translated(), tx.begin_nested():
            started = BEGIN[batch.order.kind](tx, item, batch.order, settings)
            batch_items.start(tx, batch.id, item.number, run_id=started.run_id, base_version=started.base_version)
        return started.dispatches, [Ended(item.number, outcome)] if started.done else []
    except (QueueFull, DatabaseUnavailable):
        raise
    except (RunNotFound, SessionNotFound):
        outcome = ItemOutcome.GONE
    except TeamSessionsError as error:
        code, outcome = error.code, ItemOutcome.FAILED
    except Exception as error:  # noqa: BLE001 - a bug: this item fails, the batch continues
        log.error("batch item could not begin", batch_id=batch.id, item=item.number, error=error)
        code, outcome = TeamSessionsError.code, ItemOutcome.FAILED
    batch_items.start(tx, batch.id, item.number)
    return (), [Ended(item.number, outcome, error_code=code)]
