"""Heads that have to be sent, for the sweep. Concurrent sweeps never take the same run."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, literal_column, or_, select, update

from worker.domain import Dispatch, Priority, Status, run_dispatch
from worker.store.columns import db_time, likely
from worker.store.engine import Transaction
from worker.store.tables import runs, sessions, teams
from worker.store.teams import is_live

# Literals, so that SQLite uses the partial indexes: it does not compare their conditions with bound values.
queued: ColumnElement[bool] = and_(
    likely(runs.c.status == literal_column(f"'{Status.QUEUED.value}'")), runs.c.paused_at.is_(None)
)
running: ColumnElement[bool] = likely(runs.c.status == literal_column(f"'{Status.RUNNING.value}'"))
background: ColumnElement[bool] = runs.c.priority == literal_column(f"'{Priority.BACKGROUND.value}'")
interactive: ColumnElement[bool] = runs.c.priority == literal_column(f"'{Priority.INTERACTIVE.value}'")
never_claimed: ColumnElement[bool] = runs.c.attempt == literal_column("0")
claimed_before: ColumnElement[bool] = runs.c.attempt > literal_column("0")

RESEND_S = 2.0  # a background run that was sent and not claimed is sent again


def take_expired(tx: Transaction, *, ended_only: bool, limit: int) -> list[Dispatch]:
    """Mark as dispatched, and return, heads whose lease ran out, or was ended, after their last dispatch."""
    unsent = or_(runs.c.dispatched_at.is_(None), runs.c.dispatched_at < runs.c.lease_until)
    return _take(tx, and_(_expired(ended_only), unsent), runs.c.lease_until, limit=limit)


def take_due(tx: Transaction, *, limit: int) -> list[Dispatch]:
    """Mark as dispatched, and return, queued heads whose time has come and that were not sent."""
    due = and_(queued, runs.c.not_before <= db_time(), likely(runs.c.dispatched_at.is_(None)))
    return _take(tx, due, runs.c.not_before, limit=limit)


def take_lost(tx: Transaction, *, resumed: bool, before: datetime, limit: int) -> list[Dispatch]:
    """Mark as dispatched again, and return, heads whose dispatch to a queue, before *before*, was lost."""
    of_queue = claimed_before if resumed else never_claimed
    waiting = and_(queued, runs.c.dispatched_at < before, of_queue, interactive)
    return _take(tx, waiting, runs.c.dispatched_at, limit=limit)


def take_lost_expired(tx: Transaction, *, ended_only: bool, before: datetime, limit: int) -> list[Dispatch]:
    """Mark as dispatched again, and return, those of `take_expired` whose dispatch after that was lost."""
    return _take(tx, and_(_expired(ended_only), runs.c.dispatched_at < before), runs.c.dispatched_at, limit=limit)


def take_background(tx: Transaction, *, limit: int) -> list[Dispatch]:
    """Mark as dispatched, and return, background heads that wait for a free slot, the oldest first.

    A worker with a free slot re-sends background runs whose delivery was dropped or lost.
    """
    due = or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time())
    unsent = or_(runs.c.dispatched_at.is_(None), runs.c.dispatched_at < db_time(-RESEND_S))
    waiting = and_(queued, background, due, unsent)
    return _take(tx, waiting, runs.c.created_at, limit=limit)


def _expired(ended_only: bool) -> ColumnElement[bool]:
    """Return the condition of runs whose lease is over; *ended_only*: of those whose lease was ended."""
    over = and_(running, runs.c.lease_until < db_time())
    return and_(over, runs.c.lease_owner.is_(None)) if ended_only else over


def _take(
    tx: Transaction, condition: ColumnElement[bool], order: ColumnElement[datetime], *, limit: int
) -> list[Dispatch]:
    """Mark and return heads. Two sweeps never take the same run: the second skips what the first has locked.

    Only runs of teams that a live worker serves: others would come back again and again.
    """
    served = exists().where(teams.c.team_id == sessions.c.team_id, is_live())
    heads = (
        select(runs.c.id)
        .join(sessions, sessions.c.pk == runs.c.session_pk)
        .where(condition, sessions.c.head_run_id == runs.c.id, served)
        .order_by(order)
        .limit(limit)
        .with_for_update(of=runs, skip_locked=True)
        .cte("heads")
    )
    session_id = select(sessions.c.session_id).where(sessions.c.pk == runs.c.session_pk)
    rows = tx.execute(
        update(runs)
        .where(runs.c.id.in_(select(heads.c.id)))
        .values(dispatched_at=db_time())
        .returning(
            runs.c.id,
            session_id.scalar_subquery(),
            session_id.with_only_columns(sessions.c.team_id).scalar_subquery(),
            runs.c.attempt,
            runs.c.dispatched_at,
            runs.c.priority,
        )
    )
    return [
        run_dispatch(row[0], session_id=row[1], team=row[2], attempt=row[3], sent_at=row[4], priority=Priority(row[5]))
        for row in rows
    ]
