"""The state of a run, with everything that can keep it from moving, for `runs/why.py`; and its trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from worker.domain import Priority, RunTrace, Status
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.tables import runs, sessions, summary_jobs, teams
from worker.store.teams import is_live


@dataclass(frozen=True, slots=True)
class RunState:
    """A run's row and its session's head, at the database's time `now`."""

    run_id: str
    team: str
    status: Status
    priority: Priority
    attempt: int
    head_run_id: str | None
    ahead: int  # unfinished runs before it, including cancelled ones in the queue
    behind: int  # runs after it, including ended ones in the queue
    lease_owner: str | None
    lease_until: datetime | None
    dispatched_at: datetime | None
    not_before: datetime | None
    waits_for: str | None
    cancel_requested_at: datetime | None
    error_code: str | None
    error_message: str | None
    summary_error: str | None  # why the last refresh of the session's summary failed
    summary_again_at: datetime | None  # when it is tried again; None: not before it is requested again
    needs: int  # the least contract of a worker that can execute it
    paused_at: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Served:
    """Which workers serve a team: when one was last seen (None: never), and when one of each queue was, if it lives.

    `contract`: the newest of the live ones.
    """

    seen_at: datetime | None
    queues: dict[str, datetime]
    contract: int


def of_run(tx: Transaction, run_id: str) -> RunState | None:
    """Return the state of a run; None: there is no such run."""
    head = runs.alias("head")
    ahead = func.coalesce(runs.c.position - head.c.position, 0)
    run = (runs.c.id, sessions.c.team_id, runs.c.status, runs.c.priority, runs.c.attempt, sessions.c.head_run_id)
    lease = (runs.c.lease_owner, runs.c.lease_until, runs.c.dispatched_at, runs.c.not_before, runs.c.waits_for)
    last = (runs.c.needs, runs.c.paused_at, db_time())
    ended = (runs.c.cancel_requested_at, runs.c.error_code, runs.c.error_message)
    summary = (summary_jobs.c.error_code, summary_jobs.c.send_at)
    statement = (
        select(*run, ahead, sessions.c.run_count - runs.c.position, *lease, *ended, *summary, *last)
        .select_from(runs.join(sessions, sessions.c.pk == runs.c.session_pk))
        .outerjoin(summary_jobs, summary_jobs.c.session_pk == sessions.c.pk)
        .outerjoin(head, head.c.id == sessions.c.head_run_id)
        .where(runs.c.id == run_id)
    )
    row: Any = tx.execute(statement).one_or_none()
    if row is None:
        return None
    status = Status.PAUSED if row.paused_at is not None else Status(row[2])
    return RunState(row[0], row[1], status, Priority(row[3]), *row[4:])


def paused(tx: Transaction, run_id: str) -> bool:
    """Tell whether a run is paused."""
    own = (runs.c.id == run_id, runs.c.paused_at.is_not(None))
    return tx.execute(select(runs.c.id).where(*own)).one_or_none() is not None


def unfinished_of(tx: Transaction, run_ids: Sequence[str]) -> dict[str, int | None]:
    """Return those of *run_ids* that are queued, running or paused: for each the fence of its pause, or None."""
    unfinished = runs.c.status.in_((Status.QUEUED, Status.RUNNING))
    columns = (runs.c.id, runs.c.fence, runs.c.paused_at)
    rows = tx.execute(select(*columns).where(runs.c.id.in_(run_ids), unfinished))
    return {row.id: None if row.paused_at is None else row.fence for row in rows}


def served(tx: Transaction, team: str) -> Served:
    """Return who serves *team*."""
    columns = (teams.c.seen_at, teams.c.queues, is_live(), teams.c.contract)
    rows = tx.execute(select(*columns).where(teams.c.team_id == team).order_by(teams.c.seen_at)).all()
    queues = {queue: seen_at for seen_at, consumed, lives, _contract in rows if lives for queue in consumed}
    contract = max((contract for *_, lives, contract in rows if lives), default=0)
    return Served(rows[-1][0] if rows else None, queues, contract)


def run_trace(tx: Transaction, session_pk: int, *, position: int) -> RunTrace | None:
    """Return the trace context of the run at a position of a session; None: it is gone."""
    columns = (runs.c.id, sessions.c.session_id, runs.c.traceparent)
    own = select(*columns).join(sessions, sessions.c.pk == runs.c.session_pk)
    row = tx.execute(own.where(runs.c.session_pk == session_pk, runs.c.position == position)).one_or_none()
    return None if row is None else RunTrace(*row)
