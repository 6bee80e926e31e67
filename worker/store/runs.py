"""Rows of runs, from acceptance to their end. Writers hold the lock of the run's session: `store/sessions.py`.

Pages of runs are newest first, each read in the order of one index.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, func, insert, literal, null, or_, select, update

from worker.domain import (
    Origin,
    Principal,
    Priority,
    Run,
    RunError,
    RunOptions,
    RunOrder,
    Status,
    Usage,
    Viewpoint,
)
from worker.domain.schemas import parse_answer
from worker.store import leases, pages
from worker.store.columns import TTL, UtcTime, db_time, from_columns
from worker.store.engine import Page, Transaction
from worker.store.hot import Hot
from worker.store.leases import Lease, replay_of
from worker.store.sessions import AppendedRun, find, visible
from worker.store.tables import idempotency, runs, sessions
from worker.store.usage import NAMES, amounts, booked, usage_of

LISTED = "run"  # lists start at this id: ids of replays, 'replay_…', sort before it


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run, read under its session's lock. `expired`: it is running and its lease has run out."""

    id: str
    position: int
    status: Status
    fence: int
    expired: bool
    input: str
    first_seq: int | None
    last_seq: int | None


@dataclass(frozen=True, slots=True)
class Following:
    """The run that becomes head. `sent_at` None: its time has not come."""

    position: int
    attempt: int
    priority: Priority
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Added:
    """A run that was written. `sent_at` is when it counts as dispatched; None: it is not head, or has to wait."""

    run: Run
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Which runs a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    status: Status | None = None
    session_id: str | None = None
    idempotency_key: str | None = None


def add(
    tx: Transaction,
    order: RunOrder,
    appended: AppendedRun,
    *,
    run_id: str,
    origin: Origin,
    lease: Lease | None = None,
    traceparent: str | None = None,
) -> Added:
    """Write a queued run. *order* names its session and its user.

    As the head it counts as dispatched: the dispatch follows the commit, and can get lost. It is not dispatched while
    it waits for its time, nor with a *lease*: the process that holds the lease executes it, or lets the lease run out.
    """
    replay = origin.replay
    values = {
        "id": run_id,
        "session_pk": appended.session_pk,
        "position": appended.position,
        "user_id": order.user_id,
        "team_id": order.team,
        "input": order.input,
        "metadata": order.metadata,
        "priority": order.priority,
        "timeout_s": order.timeout,
        "retry_of": origin.retry_of,
        "replay_of": replay and replay.of,
        "execute_tools": replay is not None and replay.execute_tools,
        "traceparent": traceparent,
        "needs": order.options.needs,
    }
    options = order.options.to_json() or None
    scheduling = {"is_head": appended.head_run_id == run_id, "not_before": order.not_before}
    leased = {"lease_owner": lease and lease.owner, "ttl_s": lease and lease.ttl_s}
    row = _add(leased=lease is not None).one(tx, {**values, "options": options, **scheduling, **leased})
    written = {**_EMPTY, **values, "session_id": order.session_id, "created_at": row.created_at}
    return Added(from_row(SimpleNamespace(**written)), row.dispatched_at)


_ZEROS = ("attempt", "fence", "losses", "retries", *NAMES)
_NEW: dict[str, Any] = {"status": Status.QUEUED, "excluded": False, **dict.fromkeys(_ZEROS, 0)}
_EMPTY = {**dict.fromkeys(runs.c.keys()), **_NEW}


@cache
def _add(*, leased: bool) -> Hot:
    not_before = bindparam("not_before", type_=UtcTime())
    waits = or_(~bindparam("is_head", type_=runs.c.excluded.type), not_before > db_time())
    return Hot(
        insert(runs)
        .values(
            dispatched_at=None if leased else case((waits, None), else_=db_time()),
            not_before=db_time(TTL) if leased else not_before,
            created_at=db_time(),
            **_NEW,
        )
        .returning(runs.c.created_at, runs.c.dispatched_at)
    )


def end(
    tx: Transaction,
    *,
    run_id: str,
    held: tuple[int, Status],
    status: Status,
    first_written: int,
    last_seq: int,
    output: str | None,
    finish_reason: str | None,
    is_json: bool,
    error: RunError | None,
    usage: Usage,
) -> bool:
    """Write a terminal status, end the lease and raise the fence; False: its fence and status are not *held*.

    `last_seq` is the seq of the session's newest message: while the run is head, it is the run's own.
    """
    fence, held_status = held
    code, message = (error.code, error.message) if error else (None, None)
    values = {"run": run_id, "held_fence": fence, "held_status": held_status, "status": status, "output": output}
    values |= {"first_written": first_written, "last_seq": last_seq, "error_code": code, "error_message": message}
    values |= {"finish_reason": finish_reason, "output_is_json": is_json}
    return _end().one_or_none(tx, {**values, **amounts(usage)}) is not None


@cache
def _end() -> Hot:
    held = leases.still_held(bindparam("held_fence"), bindparam("held_status", type_=runs.c.status.type))
    return Hot(
        update(runs)
        .where(runs.c.id == bindparam("run"), held)
        .values(
            fence=runs.c.fence + 1,
            paused_at=None,
            first_seq=func.coalesce(runs.c.first_seq, bindparam("first_written", type_=runs.c.first_seq.type)),
            lease_owner=None,
            lease_until=None,
            not_before=None,
            finished_at=db_time(),
            **booked(),
        )
        .returning(runs.c.id)
    )


def lock(tx: Transaction, run_id: str) -> Unfinished | None:
    """Take the lock of a run whose session's lock is held."""
    expired = func.coalesce((runs.c.status == Status.RUNNING) & (runs.c.lease_until < db_time()), False)
    columns = (runs.c.id, runs.c.position, runs.c.status, runs.c.fence, expired, runs.c.input)
    seqs = (runs.c.first_seq, runs.c.last_seq)
    row = tx.execute(select(*columns, *seqs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    return None if row is None else Unfinished(row[0], row[1], Status(row[2]), *row[3:])


def end_queued(tx: Transaction, run_id: str, *, status: Status) -> None:
    """End a queued run that is not head: it has no messages yet. The caller holds the session's lock."""
    ended = {"status": status, "fence": runs.c.fence + 1, "not_before": None, "finished_at": db_time()}
    tx.execute(update(runs).where(runs.c.id == run_id, runs.c.status == Status.QUEUED).values(**ended))


def request_cancel(tx: Transaction, run_id: str) -> None:
    """Ask the process that executes the run to end it."""
    requested_at = func.coalesce(runs.c.cancel_requested_at, db_time())
    tx.execute(update(runs).where(runs.c.id == run_id).values(cancel_requested_at=requested_at))


def exclude(tx: Transaction, run_id: str) -> None:
    """Leave a run that has not ended out of later contexts and summaries."""
    tx.execute(update(runs).where(runs.c.id == run_id).values(excluded=True))


def count_queued(tx: Transaction, *, user_id: str | None, limit: int) -> int:
    """Return how many runs are queued, of one user or (None) in all; counts no further than *limit*."""
    queued = select(literal(1)).where(*with_status(Status.QUEUED))
    own = queued if user_id is None else queued.where(runs.c.user_id == user_id)
    return int(tx.execute(select(func.count()).select_from(own.limit(limit).subquery())).scalar_one())


def mark_dispatched(tx: Transaction, run_id: str) -> Following:
    """Record that a new head is sent to its queue now, or that it waits for its time."""
    row = _MARK_DISPATCHED.one(tx, {"run": run_id})
    return Following(row.position, row.attempt, Priority(row.priority), row.dispatched_at)


def get(
    tx: Transaction, run_id: str, *, principal: Principal, user_id: str | None = None, texts: bool = True
) -> Run | None:
    """Return a run that *principal* may see; without *texts* its input, output and metadata are empty."""
    own = select(*(_WHOLE if texts else _WITHOUT_TEXTS)).join(sessions, sessions.c.pk == runs.c.session_pk)
    statement = own.where(runs.c.id == run_id, visible(principal, user_id))
    row = tx.execute(statement).one_or_none()
    return None if row is None else from_row(row)


def page(tx: Transaction, filters: RunFilters, *, principal: Principal, before: str | None, limit: int) -> Page[Run]:
    """Return up to *limit* runs that *principal* may see, newest first, older than the run *before*.

    As many as fit into a page.
    Each filter has an index that holds the list in its order; further filters are applied to its rows. The order is
    that of the ids, which sort by time; in one session that of acceptance. Replays are listed only with a session id.

    Raises:
        UserForbidden: a user's key named another user.
    """
    order: ColumnElement[Any] = runs.c.id
    last: Any = before
    conditions = [visible(principal, filters.user_id, of=runs)]
    if filters.session_id is not None:
        matches = find(tx, session_id=filters.session_id, principal=principal, user_id=filters.user_id)
        if len(matches) == 1:
            previous = runs.alias("previous")
            last = select(previous.c.position).where(previous.c.id == before).scalar_subquery()
            order, conditions = runs.c.position, [runs.c.session_pk == matches[0].pk]
        else:
            conditions.append(sessions.c.session_id == filters.session_id)
    else:
        conditions.append(order >= LISTED)
    if filters.team is not None:
        conditions.append(runs.c.team_id == filters.team)
    if filters.status is not None:
        conditions += with_status(filters.status)
    if filters.idempotency_key is not None:
        conditions.append(_under_key(tx, filters.idempotency_key, principal.acting_for(filters.user_id)))
    if before is not None:
        conditions.append(order < last)
    return _page(tx, *conditions, order=order, limit=limit)


def of_session(tx: Transaction, session_pk: int, *, before: int | None, limit: int) -> Page[Run]:
    """Return up to *limit* runs of a session, as many as fit into a page, newest first, before position *before*."""
    conditions = [runs.c.session_pk == session_pk]
    if before is not None:
        conditions.append(runs.c.position < before)
    return _page(tx, *conditions, order=runs.c.position, limit=limit)


def _page(tx: Transaction, *conditions: ColumnElement[bool], order: ColumnElement[Any], limit: int) -> Page[Run]:
    own = select(*COLUMNS).select_from(runs.join(sessions, sessions.c.pk == runs.c.session_pk))
    rows, more = pages.fitting(tx, own.where(*conditions).order_by(order.desc()), _SIZE, limit=limit)
    return pages.page(map(from_row, rows), more=more)


def with_status(status: Status) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of runs with this status."""
    if status is Status.PAUSED:
        return (runs.c.paused_at.is_not(None),)
    return (runs.c.status == status, runs.c.paused_at.is_(None))


def _under_key(tx: Transaction, key: str, acting: str | None) -> ColumnElement[bool]:
    with_key = select(idempotency.c.run_id).where(idempotency.c.key == key)
    if acting is None:
        return runs.c.id.in_(with_key)
    # At most one, read by a query of its own: SQLite would otherwise scan all runs of the user.
    return runs.c.id.in_(tx.execute(with_key.where(idempotency.c.user_id == acting)).scalars().all())


def viewpoint(tx: Transaction, run_id: str) -> Viewpoint | None:
    """Return the point from which a run reads the history; for a replay that of the original run.

    None: the run is gone, or not in the history yet.
    """
    at = func.coalesce(runs.c.started_at, runs.c.finished_at)
    columns = (runs.c.session_pk, runs.c.position, runs.c.first_seq, at, runs.c.replay_of)
    of: str | None = run_id
    row: Any = None
    while of is not None:
        row = tx.execute(select(*columns).where(runs.c.id == of)).one_or_none()
        of = row and row.replay_of
    return None if row is None or row.first_seq is None else Viewpoint(*row[:4])


_SIZE = pages.size_of_columns(runs.c.input, runs.c.output, runs.c.error_message, runs.c.metadata)
COLUMNS = (
    *(c for c in runs.c if c.name not in ("session_pk", "user_id", "team_id", "options")),
    sessions.c.session_id,
    sessions.c.user_id,
    sessions.c.team_id,
)
_WHOLE = (*COLUMNS, runs.c.options)  # with what only an order of the same needs, and no list shows
_LARGE = {"input": literal(""), "output": null(), "metadata": literal({}, runs.c.metadata.type)}
_WITHOUT_TEXTS = tuple(_LARGE[c.name].label(c.name) if c.name in _LARGE else c for c in COLUMNS)
# Built once: building them took longer than executing them.
_MARK_DISPATCHED = Hot(
    update(runs)
    .where(runs.c.id == bindparam("run"))
    .values(dispatched_at=case((runs.c.not_before > db_time(), None), else_=db_time()))
    .returning(runs.c.position, runs.c.attempt, runs.c.priority, runs.c.dispatched_at)
)


def from_row(row: Any) -> Run:
    """Return the run of a row of COLUMNS or _WHOLE."""
    return from_columns(
        Run,
        row,
        team=row.team_id,
        status=Status.PAUSED if row.paused_at is not None else Status(row.status),
        pending=[],
        parsed=parse_answer(row.output or "") if row.output_is_json else None,
        error=RunError(row.error_code, row.error_message) if row.error_code else None,
        usage=usage_of(row),
        priority=Priority(row.priority),
        replay=replay_of(row),
        options=RunOptions.from_json(getattr(row, "options", None)),
    )
