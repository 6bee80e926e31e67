"""Runs that wait too long, and silent workers: for `team-sessions doctor`. Each query reads a bounded piece."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select

from worker.domain import Priority, Status
from worker.domain.dispatch import queue_of
from worker.store.columns import db_time
from worker.store.dispatchable import queued
from worker.store.engine import Transaction
from worker.store.tables import runs, sessions, summary_jobs, teams
from worker.store.teams import SILENT_S, not_left

MOST = 1_000  # rows that a query reads: the oldest are enough
LATE_S = 10.0  # after its lease ran out, without a new claim


@dataclass(frozen=True, slots=True)
class Silent:
    """A worker that was seen a while ago, and has not signed off."""

    worker: str
    silent_s: float


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that only lacks a worker, and how long."""

    run_id: str
    team: str
    queue: str
    waits_s: float


def silent_workers(tx: Transaction, *, within_s: float) -> list[Silent]:
    """Return the workers last seen more than `teams.SILENT_S` and less than *within_s* ago, without those that left."""
    last = func.max(teams.c.seen_at).label("last")
    present = select(teams.c.worker, last, db_time()).where(not_left())
    grouped = present.group_by(teams.c.worker).order_by(teams.c.worker)
    rows = tx.execute(grouped.having(last.between(db_time(-within_s), db_time(-SILENT_S))))
    return [Silent(worker, (now - seen).total_seconds()) for worker, seen, now in rows]


def waiting_runs(tx: Transaction) -> list[WaitingRun]:
    """Return heads, among the oldest queued runs, that only lack a worker; the longest wait first."""
    oldest = select(runs.c.id).where(queued).order_by(runs.c.id).limit(MOST).cte("oldest")
    before = runs.alias("before")
    columns = (runs.c.id, sessions.c.team_id, runs.c.attempt, runs.c.priority)
    times = (runs.c.created_at, runs.c.not_before, before.c.finished_at)
    statement = (
        select(*columns, db_time(), *times)
        .select_from(runs.join(sessions, (sessions.c.pk == runs.c.session_pk) & (sessions.c.head_run_id == runs.c.id)))
        .outerjoin(before, (before.c.session_pk == runs.c.session_pk) & (before.c.position == runs.c.position - 1))
        .where(runs.c.id.in_(select(oldest.c.id)), or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time()))
    )
    waiting = [
        WaitingRun(row[0], row[1], queue_of(attempt=row[2], priority=Priority(row[3])), _since(row[4], row[5:]))
        for row in tx.execute(statement)
    ]
    return sorted(waiting, key=lambda run: -run.waits_s)


def queued_by_team(tx: Transaction) -> dict[str, int]:
    """Return how many of the oldest queued runs each team has, heads or not."""
    oldest = select(runs.c.session_pk).where(queued).order_by(runs.c.id).limit(MOST).cte("oldest")
    count = func.count().label("count")
    joined = select(sessions.c.team_id, count).select_from(oldest.join(sessions, sessions.c.pk == oldest.c.session_pk))
    rows = tx.execute(joined.group_by(sessions.c.team_id)).all()
    return {row.team_id: int(row[1]) for row in rows}


def unattended(tx: Transaction) -> int:
    """Return how many runs have an expired lease and were not claimed again."""
    late = (runs.c.status == Status.RUNNING, runs.c.lease_until < db_time(-LATE_S))
    return len(tx.execute(select(runs.c.id).where(*late).limit(MOST)).all())


def failed_summaries(tx: Transaction) -> dict[str, int]:
    """Return how many refreshes of summaries have failed and wait, by error code."""
    failed = select(summary_jobs.c.error_code).where(summary_jobs.c.error_code.is_not(None)).limit(MOST)
    return dict(Counter(tx.execute(failed).scalars()))


def _since(now: datetime, times: Iterable[datetime | None]) -> float:
    return (now - max(time for time in times if time is not None)).total_seconds()
