"""Pending calls: recorded by the process that executes the run, decided under the lock of its session."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Select, and_, insert, literal, select, tuple_, update

from worker.domain import Principal, Run
from worker.domain.pending import (
    DecidedBy,
    OnExpiry,
    PendingCall,
    PendingKind,
    Question,
    Verdict,
    key_of,
    pending_id,
)
from worker.domain.run_options import PAUSES
from worker.store import pages
from worker.store.columns import db_time, from_columns
from worker.store.engine import Page, Transaction
from worker.store.sessions import visible
from worker.store.tables import pending_calls, runs, sessions

_open = pending_calls.c.decision.is_(None)


@dataclass(frozen=True, slots=True)
class PendingFilters:
    """What a list of pending calls is limited to. None: not limited."""

    team: str | None = None
    user_id: str | None = None
    run_id: str | None = None
    kind: PendingKind | None = None
    decided_by: DecidedBy | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """A call whose time for a decision is over."""

    run_id: str
    id: str
    on_expiry: OnExpiry


def record(tx: Transaction, *, run_id: str, idempotency_key: str, question: Question) -> PendingCall:
    """Record a call that becomes pending, unless it is recorded, and return how it stands. The caller holds the run.

    From now on only workers that know pending calls can execute the run.
    """
    own = pending_calls.c.idempotency_key == idempotency_key
    row = tx.execute(_read().where(own)).one_or_none()
    if row is not None:
        return _from_row(row)
    expires_at = None if question.expires_s is None else db_time(question.expires_s)
    asked = {field.name: getattr(question, field.name) for field in fields(question) if field.name != "expires_s"}
    asked |= {"fields": list(question.fields), "created_at": db_time(), "expires_at": expires_at}
    tx.execute(insert(pending_calls).values(idempotency_key=idempotency_key, run_id=run_id, **asked))
    tx.execute(update(runs).where(runs.c.id == run_id, runs.c.needs < PAUSES).values(needs=PAUSES))
    return _from_row(tx.execute(_read().where(own)).one())


def of_run(tx: Transaction, run_id: str) -> list[PendingCall]:
    """Return the calls of a run that asked for a decision, oldest first."""
    ordered = _read().where(pending_calls.c.run_id == run_id).order_by(*_ORDER)
    return [_from_row(row) for row in tx.execute(ordered)]


def attached(tx: Transaction, runs: Sequence[Run]) -> list[Run]:
    """Return *runs* with the calls that they wait for, oldest first. Only runs that can have some cost a statement."""
    asking = [run.id for run in runs if run.needs >= PAUSES and not run.status.terminal]
    if not asking:
        return list(runs)
    ordered = _read().where(pending_calls.c.run_id.in_(asking), _open).order_by(*_ORDER)
    calls = [_from_row(row) for row in tx.execute(ordered)]
    return [replace(run, pending=[call for call in calls if call.run_id == run.id]) for run in runs]


def decide(
    tx: Transaction,
    pending_id: str,
    decision: Verdict,
    *,
    answer: str | None = None,
    note: str | None = None,
    key_id: str | None = None,
    approver: str | None = None,
) -> None:
    """Write a decision. The caller holds the session's lock, and has seen that the call is open."""
    decided = {"decision": decision, "answer": answer, "note": note, "key_id": key_id, "approver": approver}
    own = pending_calls.c.idempotency_key == key_of(pending_id)
    tx.execute(update(pending_calls).where(own, _open).values(**decided, decided_at=db_time()))


def close(tx: Transaction, run_id: str) -> set[str]:
    """End the undecided calls of a run that ends. Return the idempotency keys of its calls that were never made."""
    own = pending_calls.c.run_id == run_id
    tx.execute(update(pending_calls).where(own, _open).values(decision=Verdict.CANCELLED, decided_at=db_time()))
    never_made = pending_calls.c.decision.in_((Verdict.CANCELLED, Verdict.EXPIRED, Verdict.REJECT))
    return set(tx.execute(select(pending_calls.c.idempotency_key).where(own, never_made)).scalars())


def expired(tx: Transaction, *, limit: int) -> list[Expired]:
    """Return the first undecided calls whose time is over."""
    over = (_open, pending_calls.c.expires_at <= db_time())
    columns = (pending_calls.c.run_id, pending_calls.c.idempotency_key, pending_calls.c.on_expiry)
    first = select(*columns).where(*over).order_by(pending_calls.c.expires_at).limit(limit)
    return [Expired(row[0], pending_id(row[1]), OnExpiry(row[2])) for row in tx.execute(first)]


def page(
    tx: Transaction, filters: PendingFilters, *, principal: Principal, after: Sequence[Any] | None, limit: int
) -> Page[PendingCall]:
    """Return up to *limit* undecided calls that *principal* may see, oldest first, those after a time and an id.

    As many as fit into a page.

    Raises:
        UserForbidden: a user's key named another user.
    """
    conditions = [_open, visible(principal, filters.user_id, of=runs)]
    for column, value in (
        (runs.c.team_id, filters.team),
        (runs.c.id, filters.run_id),
        (pending_calls.c.kind, filters.kind),
        (pending_calls.c.decided_by, filters.decided_by),
    ):
        if value is not None:
            conditions.append(column == value)
    if after is not None:
        at, id = after
        conditions.append(tuple_(*_ORDER) > tuple_(literal(at, pending_calls.c.created_at.type), literal(key_of(id))))
    ordered = _read().where(and_(*conditions)).order_by(*_ORDER)
    rows, more = pages.fitting(tx, ordered, pages.size_of_row(pending_calls), limit=limit)
    return pages.page(map(_from_row, rows), more=more)


_ORDER = (pending_calls.c.created_at, pending_calls.c.idempotency_key)


def _read() -> Select[Any]:
    joined = pending_calls.join(runs, runs.c.id == pending_calls.c.run_id)
    joined = joined.join(sessions, sessions.c.pk == runs.c.session_pk)
    return select(pending_calls, runs.c.team_id, runs.c.user_id, sessions.c.session_id).select_from(joined)


def _from_row(row: Any) -> PendingCall:
    return from_columns(
        PendingCall,
        row,
        id=pending_id(row.idempotency_key),
        team=row.team_id,
        kind=PendingKind(row.kind),
        decided_by=DecidedBy(row.decided_by),
        on_expiry=OnExpiry(row.on_expiry),
        decision=None if row.decision is None else Verdict(row.decision),
    )
