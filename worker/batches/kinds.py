"""What each kind of batch does with an item. To add a kind: a function here, a row in `BEGIN`, and its name in `Kind`.

Each function begins an item in the transaction that records it as begun, so an item is begun once. The outcome is read
from the run that was accepted for it, or from its session's summary: `store/batch_items.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.domain import SERVICE, BatchOrder, Dispatch, Kind, Priority, parse_batch_run
from worker.errors import RunNotFound, SessionNotFound
from worker.runs import replay, retry
from worker.runs.enqueue import enqueue_in
from worker.settings import Settings
from worker.store import PendingItem, Transaction, runs, sessions, summary_jobs
from worker.summaries import due


@dataclass(frozen=True, slots=True)
class Started:
    """What an item began: a run, or a refresh of a summary that has this version; and what to send after the commit.

    `done`: there was nothing to do.
    """

    dispatches: tuple[Dispatch, ...] = ()
    run_id: str | None = None
    base_version: int | None = None
    done: bool = False


Begin = Callable[[Transaction, PendingItem, BatchOrder, Settings], Started]
"""Raises RunNotFound or SessionNotFound if it is gone, another TeamSessionsError if it cannot begin."""


def refresh_summary(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Started:
    """Request a refresh of a session's summary. If one is requested already, both share its job."""
    assert item.session_pk is not None
    if not sessions.lock(tx, item.session_pk) or (session := sessions.get(tx, item.session_pk)) is None:
        raise SessionNotFound(session_id=str(item.session_pk))
    dispatches = due.request(
        tx, item.session_pk, session_id=session.session_id, team=session.team, rebuild=order.rebuild
    )
    is_done = summary_jobs.state(tx, item.session_pk) is None
    return Started(dispatches, base_version=session.summary_version, done=is_done)


def replay_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Started:
    """Give the input of an earlier run to the current team, in a fork of its session."""
    assert item.source_run_id is not None
    accepted = replay.replay_in(tx, item.source_run_id, execute_tools=order.execute_tools, settings=settings)
    return Started(accepted.dispatches, accepted.run.id)


def retry_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Started:
    """Retry a failed run, or the run of the item's previous try, at the end of its session."""
    run_id = item.run_id or item.source_run_id or ""
    run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunNotFound(run_id=run_id)
    accepted = retry.again(tx, run, settings=settings, priority=Priority.BACKGROUND)
    return Started(accepted.dispatches, accepted.run.id)


def enqueue_run(tx: Transaction, item: PendingItem, order: BatchOrder, settings: Settings) -> Started:
    """Accept the requested run; if the item was tried before, retry the run of that try."""
    if item.run_id is not None:
        return retry_run(tx, item, order, settings)
    if item.request is None:
        raise RunNotFound(run_id="")  # its user was erased
    accepted = enqueue_in(tx, parse_batch_run(item.request), settings=settings)
    return Started(accepted.dispatches, accepted.run.id)


BEGIN: dict[Kind, Begin] = {
    Kind.REFRESH_SUMMARIES: refresh_summary,
    Kind.REPLAY_RUNS: replay_run,
    Kind.RETRY_FAILED: retry_run,
    Kind.ENQUEUE_RUNS: enqueue_run,
}
