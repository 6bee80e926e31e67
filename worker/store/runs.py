"""Rows of runs. Writers hold the lock of the run's session first (`store/sessions.py`), the sweep and the keeper aside,
which touch only rows that nobody holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, or_, select, update

from worker.domain.principal import Principal
from worker.domain.run import Claim, Dispatch, Run, RunError, Status, queue_of
from worker.domain.usage import Usage
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.sessions import Locked, Place, visible
from worker.store.tables import runs, sessions, tool_starts


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run as the one sees it who holds its session's lock. `expired`: it is running, and its lease has run out."""

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
    """The run that becomes head. `ready`: it may be claimed now."""

    position: int
    attempt: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """How a run stands that this process executes."""

    run_id: str
    fence: int
    running: bool
    cancel_requested: bool


def add(tx: Transaction, *, run_id: str, place: Place, input: str, metadata: dict[str, Any]) -> datetime:
    """Write a queued run and return when it was created.

    As the head it counts as dispatched: the dispatch follows the commit, and may get lost.
    """
    zeros = ("attempt", "fence", "losses", "retries", "model_calls")
    tokens = ("input_tokens", "cached_input_tokens", "output_tokens")
    created_at: datetime = tx.execute(
        insert(runs)
        .values(
            id=run_id,
            session_pk=place.session_pk,
            position=place.position,
            status=Status.QUEUED,
            input=input,
            metadata=metadata,
            excluded=False,
            dispatched_at=db_time() if place.head_run_id == run_id else None,
            created_at=db_time(),
            **dict.fromkeys(zeros + tokens, 0),
        )
        .returning(runs.c.created_at)
    ).scalar_one()
    return created_at


def claim(tx: Transaction, *, run_id: str, session: Locked, owner: str, ttl_s: float, version: str) -> Claim | None:
    """Take the lease of a head that is free, raise its fence, mark it running; None: it is not free.

    Free is a queued run whose time has come, or a running one whose lease has run out. Its input gets the session's
    next seq if it has none yet; the caller writes it.
    """
    free = or_(
        and_(runs.c.status == Status.QUEUED, or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time())),
        and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time()),
    )
    progressed = runs.c.last_seq > runs.c.claimed_seq
    lost = case((runs.c.status != Status.RUNNING, runs.c.losses), (progressed, 0), else_=runs.c.losses + 1)
    next_seq = session.last_seq + 1
    row = tx.execute(
        update(runs)
        .where(runs.c.id == run_id, free)
        .values(
            status=Status.RUNNING,
            attempt=runs.c.attempt + 1,
            fence=runs.c.fence + 1,
            lease_owner=owner,
            lease_until=db_time(ttl_s),
            losses=lost,
            not_before=None,
            team_version=version,
            first_seq=func.coalesce(runs.c.first_seq, next_seq),
            last_seq=func.coalesce(runs.c.last_seq, next_seq),
            claimed_seq=func.coalesce(runs.c.last_seq, next_seq),
            started_at=func.coalesce(runs.c.started_at, db_time()),
        )
        .returning(
            *(runs.c[name] for name in ("position", "input", "fence", "attempt", "retries", "first_seq", "last_seq")),
            *_USAGE,
            runs.c.started_at,
            runs.c.dispatched_at,
            db_time().label("now"),
            runs.c.cancel_requested_at,  # SQLite 3.40 answers `IS NOT NULL` wrongly in RETURNING: ask for the value
        )
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        run_id=run_id,
        session_pk=session.pk,
        session_id=session.session_id,
        user_id=session.user_id,
        team=session.team,
        position=row.position,
        input=row.input,
        fence=row.fence,
        attempt=row.attempt,
        retries=row.retries,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        usage=_usage(row),
        dispatched_at=row.dispatched_at,
        elapsed_s=(row.now - row.started_at).total_seconds(),
        cancel_requested=row.cancel_requested_at is not None,
    )


def still_held(fence: int, status: Status = Status.RUNNING) -> ColumnElement[bool]:
    """The fence check: true while nobody else has claimed the run and it has not ended."""
    return and_(runs.c.fence == fence, runs.c.status == status)


def hold(tx: Transaction, claim: Claim, *, last_seq: int, usage: Usage, ttl_s: float) -> bool:
    """Check the fence, renew the lease, and book what the write adds; False: the run is not held any more."""
    row = tx.execute(
        update(runs)
        .where(runs.c.id == claim.run_id, still_held(claim.fence))
        .values(last_seq=last_seq, retries=0, lease_until=db_time(ttl_s), **_added(usage))
        .returning(runs.c.id)
    )
    return row.one_or_none() is not None


def record_start(tx: Transaction, *, run_id: str, idempotency_key: str) -> bool:
    """Record that an unsafe tool call starts; False: its start was recorded before. The caller holds the run."""
    known = tx.execute(select(tool_starts.c.run_id).where(tool_starts.c.idempotency_key == idempotency_key))
    if known.one_or_none() is not None:
        return False
    tx.execute(insert(tool_starts).values(idempotency_key=idempotency_key, run_id=run_id, started_at=db_time()))
    return True


def requeue(tx: Transaction, claim: Claim, *, wait_s: float | None, retried: bool) -> datetime | None:
    """Give a held run back to the queue: at once (None), or not before so many seconds. It stays head.

    Returns when it may be claimed again;
    None: it is not held any more.
    """
    row = tx.execute(
        update(runs)
        .where(runs.c.id == claim.run_id, still_held(claim.fence))
        .values(
            status=Status.QUEUED,
            lease_owner=None,
            lease_until=None,
            retries=runs.c.retries + int(retried),
            not_before=None if wait_s is None else db_time(wait_s),
            dispatched_at=db_time() if wait_s is None else None,
        )
        .returning(runs.c.not_before, func.coalesce(runs.c.not_before, db_time()).label("at"))
    ).one_or_none()
    return None if row is None else row.at


def put_back(tx: Transaction, run_id: str, *, wait_s: float) -> None:
    """Have the sweep send a run again in *wait_s* seconds, unless somebody has claimed it meanwhile."""
    taken_back = {"not_before": db_time(wait_s), "dispatched_at": None}
    tx.execute(update(runs).where(runs.c.id == run_id, runs.c.status == Status.QUEUED).values(**taken_back))
    expired = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time())
    tx.execute(update(runs).where(runs.c.id == run_id, expired).values(dispatched_at=None))


def end(
    tx: Transaction,
    *,
    run_id: str,
    held: ColumnElement[bool],
    status: Status,
    first_written: int,
    last_seq: int,
    output: str | None,
    error: RunError | None,
    usage: Usage,
) -> bool:
    """Write a terminal status, give the lease back and raise the fence; False: *held* is not true of the run.

    `last_seq` is the seq of the session's newest message: while the run is head, it is the run's own.
    """
    row = tx.execute(
        update(runs)
        .where(runs.c.id == run_id, held)
        .values(
            status=status,
            fence=runs.c.fence + 1,
            first_seq=func.coalesce(runs.c.first_seq, first_written),
            last_seq=last_seq,
            output=output,
            error_code=error and error.code,
            error_message=error and error.message,
            lease_owner=None,
            lease_until=None,
            not_before=None,
            finished_at=db_time(),
            **_added(usage),
        )
        .returning(runs.c.id)
    )
    return row.one_or_none() is not None


def lock(tx: Transaction, run_id: str) -> Unfinished | None:
    """Take the lock of a run whose session's lock is held."""
    expired = func.coalesce(and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time()), False)
    columns = (runs.c.id, runs.c.position, runs.c.status, runs.c.fence, expired, runs.c.input)
    seqs = (runs.c.first_seq, runs.c.last_seq)
    row = tx.execute(select(*columns, *seqs).where(runs.c.id == run_id).with_for_update()).one_or_none()
    return None if row is None else Unfinished(row[0], row[1], Status(row[2]), *row[3:])


def end_behind_head(tx: Transaction, run_id: str, *, status: Status) -> None:
    """End a queued run that is not head: it has no messages yet. The caller holds the session's lock."""
    ended = {"status": status, "fence": runs.c.fence + 1, "not_before": None, "finished_at": db_time()}
    tx.execute(update(runs).where(runs.c.id == run_id, runs.c.status == Status.QUEUED).values(**ended))


def request_cancel(tx: Transaction, run_id: str) -> None:
    """Ask the process that executes the run to end it."""
    asked = func.coalesce(runs.c.cancel_requested_at, db_time())
    tx.execute(update(runs).where(runs.c.id == run_id).values(cancel_requested_at=asked))


def mark_dispatched(tx: Transaction, run_id: str) -> Following:
    """Note that a new head goes to its queue now, or that it waits for its time."""
    waits = runs.c.not_before > db_time()
    row = tx.execute(
        update(runs)
        .where(runs.c.id == run_id)
        .values(dispatched_at=case((waits, None), else_=db_time()))
        .returning(runs.c.position, runs.c.attempt, runs.c.dispatched_at)
    ).one()
    return Following(row.position, row.attempt, ready=row.dispatched_at is not None)


def renew(tx: Transaction, *, owner: str, ttl_s: float) -> None:
    """Keep the leases of all runs of *owner* for *ttl_s* seconds more.

    Rows that somebody holds are skipped: whoever waits for a lock here would let the other leases run out, and a
    journal that holds one renews it itself.
    """
    mine = select(runs.c.id).where(runs.c.lease_owner == owner, runs.c.status == Status.RUNNING)
    free = mine.with_for_update(skip_locked=True)
    tx.execute(update(runs).where(runs.c.id.in_(free)).values(lease_until=db_time(ttl_s)))


def watch(tx: Transaction, run_ids: Sequence[str]) -> list[Watched]:
    """Return how these runs stand. Reads; waits for nobody."""
    columns = (runs.c.id, runs.c.fence, runs.c.status == Status.RUNNING, runs.c.cancel_requested_at.is_not(None))
    return [Watched(*row) for row in tx.execute(select(*columns).where(runs.c.id.in_(run_ids)))]


def take_ready(tx: Transaction, *, limit: int) -> list[Dispatch]:
    """Mark as dispatched, and return, heads that became ready without anybody sending them.

    Runs whose lease ran out since they were last dispatched, and queued ones whose time has come.
    """
    expired = and_(
        runs.c.status == Status.RUNNING,
        runs.c.lease_until < db_time(),
        or_(runs.c.dispatched_at.is_(None), runs.c.dispatched_at < runs.c.lease_until),
    )
    due = and_(runs.c.status == Status.QUEUED, runs.c.not_before <= db_time(), runs.c.dispatched_at.is_(None))
    return _take(tx, expired, limit=limit) + _take(tx, due, limit=limit)


def take_lost(tx: Transaction, *, resumed: bool, before: datetime, limit: int) -> list[Dispatch]:
    """Mark as dispatched again, and return, heads whose dispatch before *before* to a queue was lost."""
    started = runs.c.attempt > 0 if resumed else runs.c.attempt == 0
    queued = and_(runs.c.status == Status.QUEUED, runs.c.dispatched_at < before, started)
    taken = _take(tx, queued, limit=limit)
    if resumed:
        expired = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time(), runs.c.dispatched_at < before)
        taken += _take(tx, expired, limit=limit)
    return taken


def db_now(tx: Transaction, *, offset_s: float = 0.0) -> datetime:
    """Return the database's time, so many seconds from now."""
    return tx.execute(select(db_time(offset_s))).scalar_one()


def get(tx: Transaction, run_id: str, *, principal: Principal, user_id: str | None = None) -> Run | None:
    """Return a run that *principal* may see."""
    scope = visible(principal, user_id, sessions.c.user_id)
    statement = select(*_RUN).join(sessions, sessions.c.pk == runs.c.session_pk).where(runs.c.id == run_id)
    if scope is not None:
        statement = statement.where(scope)
    row = tx.execute(statement).one_or_none()
    return None if row is None else _run(row)


_USAGE = (runs.c.model_calls, runs.c.input_tokens, runs.c.cached_input_tokens, runs.c.output_tokens)
_RUN = (
    *(c for c in runs.c if c.name not in ("session_pk", "session_id")),
    sessions.c.session_id,
    sessions.c.user_id,
    sessions.c.team_id,
)


def _take(tx: Transaction, condition: ColumnElement[bool], *, limit: int) -> list[Dispatch]:
    """Two sweeps never take the same run: the first marks it, the second skips what is locked."""
    heads = (
        select(runs.c.id)
        .join(sessions, sessions.c.pk == runs.c.session_pk)
        .where(condition, sessions.c.head_run_id == runs.c.id)
        .order_by(runs.c.dispatched_at)
        .limit(limit)
        .with_for_update(of=runs, skip_locked=True)
        .cte("heads")
    )
    of_run = select(sessions.c.session_id).where(sessions.c.pk == runs.c.session_pk)
    rows = tx.execute(
        update(runs)
        .where(runs.c.id.in_(select(heads.c.id)))
        .values(dispatched_at=db_time())
        .returning(
            runs.c.id,
            of_run.scalar_subquery(),
            of_run.with_only_columns(sessions.c.team_id).scalar_subquery(),
            runs.c.attempt,
        )
    )
    return [Dispatch(row[0], row[1], row[2], row[3], queue_of(attempt=row[3])) for row in rows]


def _added(usage: Usage) -> dict[str, Any]:
    added = (usage.model_calls, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    return {column.name: column + n for column, n in zip(_USAGE, added, strict=True) if n}


def _usage(row: Any) -> Usage:
    return Usage(row.model_calls, row.input_tokens, row.cached_input_tokens, row.output_tokens)


def _run(row: Any) -> Run:
    return Run(
        id=row.id,
        team=row.team_id,
        session_id=row.session_id,
        user_id=row.user_id,
        status=Status(row.status),
        position=row.position,
        attempt=row.attempt,
        fence=row.fence,
        input=row.input,
        output=row.output,
        error=RunError(row.error_code, row.error_message) if row.error_code else None,
        usage=_usage(row),
        retry_of=row.retry_of,
        metadata=row.metadata,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
