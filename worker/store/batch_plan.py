"""Write the items of a batch down, in pieces that do not grow with what is selected, and say what there would be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, exists, func, insert, literal, select

from worker.domain.batch import BatchOrder, Kind, Selection
from worker.domain.principal import Principal
from worker.domain.run import Status
from worker.store.engine import Transaction
from worker.store.session_pages import SessionFilters, meeting
from worker.store.sessions import visible
from worker.store.tables import batch_items, runs, sessions, summaries


@dataclass(frozen=True, slots=True)
class Written:
    """So many items were written, up to the one with this key: a session's pk, or a run's id. None: there was none."""

    count: int
    last_key: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a filter selects: how many, the callers' ids of the first, and what so much has used or holds."""

    count: int
    sample: list[str]
    input_tokens: int
    output_tokens: int


def of_sessions(kind: Kind) -> bool:
    """Tell whether the items of a kind are sessions; else they are runs."""
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
    """Write the next *limit* items that the order's filter finds behind the key *after*, numbered from *first*."""
    if of_sessions(order.kind):
        found = _sessions(tx, order.select, principal, sessions.c.pk).where(
            sessions.c.pk > (int(after) if after is not None else 0)
        )
        chosen = found.order_by(sessions.c.pk).limit(limit).subquery()
        columns = {"session_pk": chosen.c.pk, "source_run_id": cast(None, String)}
        place: ColumnElement[Any] = chosen.c.pk
    else:
        found = _runs(tx, order, principal, runs.c.id, runs.c.session_pk).where(runs.c.id > (after or ""))
        chosen = found.order_by(runs.c.id).limit(limit).subquery()
        columns = {"session_pk": chosen.c.session_pk, "source_run_id": chosen.c.id}
        place = chosen.c.id
    return _write(tx, batch_id, columns, place, first=first)


def write_ids(
    tx: Transaction, batch_id: str, order: BatchOrder, ids: Sequence[str], *, principal: Principal, first: int
) -> int:
    """Write the sessions or runs of these ids as items; return how many were found.

    Sessions by the callers' ids; runs by ours, of the statuses that the order is about. None that is an item already.
    """
    there = batch_items.c.session_pk if of_sessions(order.kind) else batch_items.c.source_run_id
    known = select(there).where(batch_items.c.batch_id == batch_id, there.is_not(None))
    if of_sessions(order.kind):
        own = (sessions.c.session_id.in_(ids), visible(principal, order.select.user_id), sessions.c.pk.not_in(known))
        chosen = select(sessions.c.pk).where(*own).subquery()
        columns = {"session_pk": chosen.c.pk, "source_run_id": cast(None, String)}
        return _write(tx, batch_id, columns, chosen.c.pk, first=first).count
    own_run = visible(principal, order.select.user_id, of=runs)
    ended = (runs.c.id.in_(ids), runs.c.id.not_in(known), own_run, runs.c.status.in_(_statuses(order)))
    chosen = select(runs.c.id, runs.c.session_pk).where(*ended).subquery()
    columns = {"session_pk": chosen.c.session_pk, "source_run_id": chosen.c.id}
    return _write(tx, batch_id, columns, chosen.c.id, first=first).count


def write_requests(
    tx: Transaction, batch_id: str, requests: Sequence[tuple[str | None, str, dict[str, Any]]], *, first: int
) -> None:
    """Write orders of runs as items: (custom id, user, order as an object for JSON)."""
    rows = [
        {"number": first + n, "custom_id": custom_id, "user_id": user_id, "request": request}
        for n, (custom_id, user_id, request) in enumerate(requests)
    ]
    if rows:
        tx.execute(insert(batch_items).values(batch_id=batch_id, tries=0), rows)


def known_custom_ids(tx: Transaction, batch_id: str, custom_ids: Sequence[str]) -> list[str]:
    """Return those of *custom_ids* that items of the batch have already."""
    own = (batch_items.c.batch_id == batch_id, batch_items.c.custom_id.in_(custom_ids))
    return [str(one) for one in tx.execute(select(batch_items.c.custom_id).where(*own)).scalars()]


def look(tx: Transaction, order: BatchOrder, *, principal: Principal, sample: int) -> Found:
    """Say what the order's filter selects.

    Tokens of runs are what they have used the last time; of sessions about what a refresh reads and writes.
    """
    if of_sessions(order.kind):
        history = sessions.c.unsummarised
        total = _sessions(tx, order.select, principal, func.count(), func.coalesce(func.sum(history), 0))
        first = _sessions(tx, order.select, principal, sessions.c.session_id).order_by(sessions.c.pk)
        count, characters = tx.execute(total).one()
        found = list(tx.execute(first.limit(sample)).scalars())
        return Found(count, found, int(characters), 0)
    sums = (func.coalesce(func.sum(column), 0) for column in (runs.c.input_tokens, runs.c.output_tokens))
    count, used, made = tx.execute(_runs(tx, order, principal, func.count(), *sums)).one()
    first = _runs(tx, order, principal, runs.c.id).order_by(runs.c.id)
    return Found(count, list(tx.execute(first.limit(sample)).scalars()), int(used), int(made))


def _write(
    tx: Transaction, batch_id: str, columns: dict[str, ColumnElement[Any]], place: ColumnElement[Any], *, first: int
) -> Written:
    number = func.row_number().over(order_by=place) + (first - 1)
    rows = select(literal(batch_id), number, *columns.values(), literal(0))
    names = ["batch_id", "number", *columns, "tries"]
    tx.execute(insert(batch_items).from_select(names, rows))
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


def _sessions(tx: Transaction, wanted: Selection, principal: Principal, *columns: Any) -> Select[Any]:
    """Return a SELECT of sessions that meet the filter."""
    conditions = [*_of_session(tx, wanted, principal), *_between(wanted, sessions.c.updated_at)]
    if wanted.team_version is not None:
        by_version = (runs.c.session_pk == sessions.c.pk, runs.c.team_version == wanted.team_version)
        conditions.append(exists().where(*by_version))
    if wanted.summary_below is not None:
        conditions.append(sessions.c.summary_version < wanted.summary_below)
    if wanted.summary_not_by is not None:
        current = and_(summaries.c.session_pk == sessions.c.pk, summaries.c.version == sessions.c.summary_version)
        conditions.append(~exists().where(current, summaries.c.prompt_hash == wanted.summary_not_by))
    return select(*columns).select_from(sessions).where(*conditions)


def _runs(tx: Transaction, order: BatchOrder, principal: Principal, *columns: Any) -> Select[Any]:
    """Return a SELECT of runs that have ended and meet the filter; of failed ones those that were not tried again."""
    wanted = order.select
    conditions = [runs.c.status.in_(_statuses(order)), *_between(wanted, runs.c.created_at)]
    if wanted.team_version is not None:
        conditions.append(runs.c.team_version == wanted.team_version)
    if order.kind is Kind.RETRY_FAILED:
        again = runs.alias("again")
        conditions.append(~exists().where(again.c.session_pk == runs.c.session_pk, again.c.retry_of == runs.c.id))
    conditions += _of_session(tx, wanted, principal)
    return select(*columns).select_from(runs.join(sessions, sessions.c.pk == runs.c.session_pk)).where(*conditions)


def _statuses(order: BatchOrder) -> list[str]:
    """Return the statuses that are selected: one that was asked for, or those that a kind is about."""
    if order.select.status is not None:
        return [order.select.status]
    return [Status.COMPLETED] if order.kind is Kind.REPLAY_RUNS else [Status.FAILED]


def _of_session(tx: Transaction, wanted: Selection, principal: Principal) -> list[ColumnElement[bool]]:
    return meeting(tx, SessionFilters(wanted.user_id, wanted.team, wanted.name, wanted.tag), principal=principal)


def _between(wanted: Selection, time: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    since = [] if wanted.since is None else [time >= wanted.since]
    return since if wanted.until is None else [*since, time < wanted.until]
