"""What each kind of batch does to an item. To add one: a function here, a row in `BEGIN`, and its name in `Kind`.

Each begins an item inside the transaction that notes it as begun, so that an item is begun once. What becomes of it is
read from the run that was made for it, or from its session's summary: `store/batch_items.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from worker.domain.batch import BatchOrder, Kind
from worker.domain.dispatch import Dispatch
from worker.domain.principal import SERVICE
from worker.domain.run import Priority
from worker.domain.run_order import parse_stored_order
from worker.errors import RunNotFound, SessionNotFound
from worker.runs import replay, retry
from worker.runs.enqueue import enqueue_in
from worker.settings import Settings
from worker.store import runs, sessions, summary_jobs
from worker.store.batch_items import PendingItem
from worker.store.engine import Transaction
from worker.summaries import due


@dataclass(frozen=True, slots=True)
class Begun:
    """What was made for an item: a run, or a refresh of a summary with this version; and what is to be sent.

    `done`: there was nothing to do.
    """

    dispatches: tuple[Dispatch, ...] = ()
    run_id: str | None = None
    base_version: int | None = None
    done: bool = False


Begin = Callable[[Transaction, PendingItem, BatchOrder, Settings], Begun]
"""Raises RunNotFound or SessionNotFound for what is gone, another TeamSessionsError for what cannot be begun."""


def refresh_summary(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Begun:
    """Have a session's summary refreshed; its job makes one of any number of triggers."""
    assert item.session_pk is not None
    if not sessions.lock(tx, item.session_pk) or (row := sessions.get(tx, item.session_pk)) is None:
        raise SessionNotFound(session_id=str(item.session_pk))
    place = {"session_id": row.session_id, "team": row.team}
    ready = due.request(tx, item.session_pk, **place, rebuild=order.rebuild)
    wanted = summary_jobs.state(tx, item.session_pk)
    return Begun(ready, base_version=row.summary_version, done=wanted is None)


def replay_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Begun:
    """Give the input of an earlier run to the team as it is now, in a fork of its session."""
    assert item.source_run_id is not None
    accepted = replay.replay_in(tx, item.source_run_id, execute_tools=order.execute_tools, settings=settings)
    return Begun(accepted.dispatches, accepted.run.id)


def retry_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Begun:
    """Repeat a failed run, or that of the try before, at the end of its session."""
    run_id = item.run_id or item.source_run_id or ""
    run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunNotFound(run_id=run_id)
    accepted = retry.again(tx, run, settings=settings, priority=Priority.BACKGROUND)
    return Begun(accepted.dispatches, accepted.run.id)


def enqueue_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Begun:
    """Accept a run as its caller has ordered it; where an earlier try of it failed, repeat that."""
    if item.run_id is not None:
        return retry_run(tx, item, order, settings)
    if item.request is None:
        raise RunNotFound(run_id="")  # its user was erased
    run_order = replace(parse_stored_order(item.request), priority=Priority.BACKGROUND)
    accepted = enqueue_in(tx, run_order, settings=settings)
    return Begun(accepted.dispatches, accepted.run.id)


BEGIN: dict[Kind, Begin] = {
    Kind.REFRESH_SUMMARIES: refresh_summary,
    Kind.REPLAY_RUNS: replay_run,
    Kind.RETRY_FAILED: retry_run,
    Kind.ENQUEUE_RUNS: enqueue_run,
}
