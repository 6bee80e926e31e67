"""Write the items of a batch in pieces of bounded size, and estimate what a filter selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, String, and_, cast, exists, func, insert, literal, select

from worker.domain import BatchOrder, Kind, Principal, Selection, Status
from worker.store.engine import Transaction
from worker.store.sessions import SessionFilters, matching, visible
from worker.store.tables import batch_items, runs, sessions, summaries


@dataclass(frozen=True, slots=True)
class Written:
    """How many items were written, and the key of the last one: a session's pk or a run's id. None: none was."""

    count: int
    last_key: str | None


@dataclass(frozen=True, slots=True)
class Selected:
    """What a filter selects: how many, the ids of the first, and their tokens."""

    count: int
    sample: list[str]
    input_tokens: int
    output_tokens: int


def selects_sessions(kind: Kind) -> bool:
    """Tell whether the items of a kind are sessions; otherwise they are runs."""
    return kind is Kind.REFRESH_SUMMARIES


def write_selected(
    tx: Transaction,
    batch_id: str,
    order: BatchOrder,
    *,
    principal: Principal,
    after: str | None,
    first: int,
    limit: int,
) -> Written:
    """Write the next *limit* items that the order's filter selects after the key *after*, numbered from *first*."""
    if selects_sessions(order.kind):
        key: Column[Any] = sessions.c.pk
        selected = _sessions(tx, order.select, principal, *_SESSION_ITEM).where(key > int(after or 0))
    else:
        key = runs.c.id
        selected = _runs(tx, order, principal, *_RUN_ITEM).where(key > (after or ""))
    return _write(tx, batch_id, order, selected.order_by(key).limit(limit), first=first)


def write_ids(
    tx: Transaction, batch_id: str, order: BatchOrder, ids: Sequence[str], *, principal: Principal, first: int
) -> int:
    """Write the sessions (by session id) or runs with these ids as items; return how many.

    Runs only in the statuses that the order processes. What is an item of the batch already is left out.
    """
    column = batch_items.c.session_pk if selects_sessions(order.kind) else batch_items.c.source_run_id
    existing = select(column).where(batch_items.c.batch_id == batch_id, column.is_not(None))
    if selects_sessions(order.kind):
        own = (sessions.c.session_id.in_(ids), visible(principal, order.select.user_id), sessions.c.pk.not_in(existing))
        return _write(tx, batch_id, order, select(*_SESSION_ITEM).where(*own), first=first).count
    own_run = visible(principal, order.select.user_id, of=runs)
    ended = (runs.c.id.in_(ids), runs.c.id.not_in(existing), own_run, runs.c.status.in_(_statuses(order)))
    return _write(tx, batch_id, order, select(*_RUN_ITEM).where(*ended), first=first).count


def write_requests(
    tx: Transaction, batch_id: str, requests: Sequence[tuple[str | None, str, dict[str, Any]]], *, first: int
) -> None:
    """Write requests as items: (custom id, user, run order as an object for JSON)."""
    rows = [
        {"number": first + n, "custom_id": custom_id, "user_id": user_id, "request": request}
        for n, (custom_id, user_id, request) in enumerate(requests)
    ]
    if rows:
        tx.execute(insert(batch_items).values(batch_id=batch_id, tries=0), rows)


def existing_custom_ids(tx: Transaction, batch_id: str, custom_ids: Sequence[str]) -> list[str]:
    """Return those of *custom_ids* that items of the batch already have."""
    own = (batch_items.c.batch_id == batch_id, batch_items.c.custom_id.in_(custom_ids))
    return [str(custom_id) for custom_id in tx.execute(select(batch_items.c.custom_id).where(*own)).scalars()]


def estimate(tx: Transaction, order: BatchOrder, *, principal: Principal, sample: int) -> Selected:
    """Return what the order's filter selects.

    Tokens of runs are those that they used. For sessions `input_tokens` is the number of characters to summarise.
    """
    if selects_sessions(order.kind):
        history = sessions.c.unsummarised
        total = _sessions(tx, order.select, principal, func.count(), func.coalesce(func.sum(history), 0))
        first = _sessions(tx, order.select, principal, sessions.c.session_id).order_by(sessions.c.pk)
        count, characters = tx.execute(total).one()
        return Selected(count, list(tx.execute(first.limit(sample)).scalars()), int(characters), 0)
    sums = (func.coalesce(func.sum(column), 0) for column in (runs.c.input_tokens, runs.c.output_tokens))
    count, read, written = tx.execute(_runs(tx, order, principal, func.count(), *sums)).one()
    first = _runs(tx, order, principal, runs.c.id).order_by(runs.c.id)
    return Selected(count, list(tx.execute(first.limit(sample)).scalars()), int(read), int(written))


# What an item uses: a session, or a run and its session.
_SESSION_ITEM = (sessions.c.pk.label("session_pk"), cast(None, String).label("source_run_id"))
_RUN_ITEM = (runs.c.session_pk, runs.c.id.label("source_run_id"))


def _write(tx: Transaction, batch_id: str, order: BatchOrder, selected: Select[Any], *, first: int) -> Written:
    uses = selected.subquery().c
    key = uses.session_pk if selects_sessions(order.kind) else uses.source_run_id
    number = func.row_number().over(order_by=key) + (first - 1)
    rows = select(literal(batch_id), number, uses.session_pk, uses.source_run_id, literal(0))
    tx.execute(insert(batch_items).from_select(["batch_id", "number", "session_pk", "source_run_id", "tries"], rows))
    newest = (
        select(batch_items.c.number, batch_items.c.session_pk, batch_items.c.source_run_id)
        .where(batch_items.c.batch_id == batch_id, batch_items.c.number >= first)
        .order_by(batch_items.c.number.desc())
        .limit(1)
    )
    row = tx.execute(newest).one_or_none()
    if row is None:
        return Written(0, None)
    return Written(row.number - first + 1, str(row.source_run_id or row.session_pk))


def _sessions(tx: Transaction, selection: Selection, principal: Principal, *columns: Any) -> Select[Any]:
    """Return a SELECT of the sessions that the filter selects."""
    conditions = [*_of_session(tx, selection, principal), *_between(selection, sessions.c.updated_at)]
    if selection.team_version is not None:
        by_version = (runs.c.session_pk == sessions.c.pk, runs.c.team_version == selection.team_version)
        conditions.append(exists().where(*by_version))
    if selection.summary_below is not None:
        conditions.append(sessions.c.summary_version < selection.summary_below)
    if selection.summary_not_by is not None:
        current = and_(summaries.c.session_pk == sessions.c.pk, summaries.c.version == sessions.c.summary_version)
        conditions.append(~exists().where(current, summaries.c.prompt_hash == selection.summary_not_by))
    return select(*columns).select_from(sessions).where(*conditions)


def _runs(tx: Transaction, order: BatchOrder, principal: Principal, *columns: Any) -> Select[Any]:
    """Return a SELECT of the ended runs that the filter selects; failed runs only if they were not retried."""
    selection = order.select
    conditions = [runs.c.status.in_(_statuses(order)), *_between(selection, runs.c.created_at)]
    if selection.team_version is not None:
        conditions.append(runs.c.team_version == selection.team_version)
    if order.kind is Kind.RETRY_FAILED:
        retry = runs.alias("retry")
        conditions.append(~exists().where(retry.c.session_pk == runs.c.session_pk, retry.c.retry_of == runs.c.id))
    conditions += _of_session(tx, selection, principal)
    return select(*columns).select_from(runs.join(sessions, sessions.c.pk == runs.c.session_pk)).where(*conditions)


def _statuses(order: BatchOrder) -> list[str]:
    """Return the selected statuses: the one of the filter, or those that the kind processes."""
    if order.select.status is not None:
        return [order.select.status]
    return [Status.COMPLETED] if order.kind is Kind.REPLAY_RUNS else [Status.FAILED]


def _of_session(tx: Transaction, selection: Selection, principal: Principal) -> list[ColumnElement[bool]]:
    filters = SessionFilters(selection.user_id, selection.team, selection.name, selection.tag)
    return matching(tx.dialect.name, filters, principal=principal)


def _between(selection: Selection, time: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    since = [] if selection.since is None else [time >= selection.since]
    return since if selection.until is None else [*since, time < selection.until]
