"""Counts and ages over the whole installation, for metrics.

Each statement reads a small index of unfinished runs, and counts no further than `MOST`. A head waits since it was
dispatched, since its time came, or since its lease ran out. Only heads are dispatched, so the oldest dispatch of a
queue is found without reading sessions.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select

from worker.domain import Priority
from worker.domain.dispatch import queue_of
from worker.store import teams
from worker.store.columns import db_now, db_time
from worker.store.dispatchable import background, claimed_before, interactive, never_claimed, queued, running
from worker.store.engine import Transaction
from worker.store.tables import batches, runs, sessions, summary_jobs

MOST = 100_000
LOOK = 1_000  # the oldest unsent head, and the oldest due summary, are searched among this many rows

_QUEUES = {
    "resumed": (queued, claimed_before, interactive),
    "runs": (queued, never_claimed, interactive),
    "batch": (queued, background),
}


@dataclass(frozen=True, slots=True)
class Gauges:
    """Counts, and ages in seconds; the age of a queue without waiting heads is 0."""

    runs: dict[tuple[str, str], int]  # (queue, status)
    oldest_head_s: dict[str, float]  # queue
    workers: dict[str, int]  # queue
    team_workers: dict[str, int]  # team
    summary_jobs: dict[str, int]  # due, failed
    oldest_summary_s: float
    batches: dict[str, int]  # status
    batch_items: dict[str, int]  # waiting, in_flight


def read(tx: Transaction) -> Gauges:
    """Return all gauges."""
    counts = {(queue, "queued"): _count(tx, runs.c.id, *where) for queue, where in _QUEUES.items()}
    for queue, of in (("runs", interactive), ("batch", background)):
        counts[queue, "running"] = _count(tx, runs.c.id, running, of)
    counts["resumed", "paused"] = _count(tx, runs.c.id, runs.c.paused_at.is_not(None))
    live = teams.live(tx)
    jobs = {"due": summary_jobs.c.send_at.is_not(None), "failed": summary_jobs.c.send_at.is_(None)}
    unfinished = select(batches.c.status, batches.c.planned, batches.c.fed, batches.c.ended)
    open_batches: Any = tx.execute(unfinished.where(batches.c.finished_at.is_(None))).all()
    return Gauges(
        runs=counts,
        oldest_head_s=_oldest_heads(tx, now=db_now(tx)),
        workers=teams.live_workers(tx),
        team_workers={team.id: team.workers for team in live},
        summary_jobs={name: _count(tx, summary_jobs.c.session_pk, of) for name, of in jobs.items()},
        oldest_summary_s=_oldest_summary(tx, now=db_now(tx)),
        batches=dict(Counter(row.status for row in open_batches)),
        batch_items={
            "waiting": sum(row.planned - row.fed for row in open_batches),
            "in_flight": sum(row.fed - row.ended for row in open_batches),
        },
    )


def _count(tx: Transaction, column: ColumnElement[Any], *where: ColumnElement[bool]) -> int:
    limited = select(column).where(*where).limit(MOST).subquery()
    return tx.execute(select(func.count()).select_from(limited)).scalar_one()


def _oldest_heads(tx: Transaction, *, now: datetime) -> dict[str, float]:
    since: dict[str, list[datetime]] = {
        queue: list(tx.execute(_first(runs.c.dispatched_at, *where, runs.c.dispatched_at.is_not(None))).scalars())
        for queue, where in _QUEUES.items()
    }
    since["resumed"] += tx.execute(_first(runs.c.lease_until, running, runs.c.lease_until < db_time())).scalars()
    for row in tx.execute(_due_unsent()):
        since[queue_of(attempt=row.attempt, priority=Priority(row.priority))].append(row.not_before)
    return {queue: max(0.0, (now - min(times, default=now)).total_seconds()) for queue, times in since.items()}


def _first(column: ColumnElement[datetime], *where: ColumnElement[bool]) -> Any:
    return select(column).where(*where).order_by(column).limit(1)


def _due_unsent() -> Any:
    """Select the queued heads whose time has come and that were not sent: no worker serves their team."""
    due = and_(queued, runs.c.not_before <= db_time())
    columns = (runs.c.id, runs.c.session_pk, runs.c.attempt, runs.c.priority, runs.c.not_before, runs.c.dispatched_at)
    first = select(*columns).where(due).order_by(runs.c.not_before).limit(LOOK).subquery()
    head = and_(sessions.c.pk == first.c.session_pk, sessions.c.head_run_id == first.c.id)
    return select(first).join(sessions, head).where(first.c.dispatched_at.is_(None))


def _oldest_summary(tx: Transaction, *, now: datetime) -> float:
    """Return the age of the oldest request among the jobs that are due to be sent."""
    due = select(summary_jobs.c.requested_at).where(summary_jobs.c.send_at <= db_time())
    first = due.order_by(summary_jobs.c.send_at).limit(LOOK).subquery()
    oldest = tx.execute(select(func.min(first.c.requested_at))).scalar_one()
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
