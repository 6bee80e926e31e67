"""The rows of one user: read in order for an export, and those that are erased without a session."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Select, delete, select

from worker.domain import Principal
from worker.store import batch_items, pages
from worker.store.engine import Page, Transaction
from worker.store.sessions import visible
from worker.store.tables import api_keys, batches, idempotency, runs, sessions


def session_pks(tx: Transaction, *, principal: Principal, user_id: str, after: int, limit: int) -> list[int]:
    """Return the pks of up to *limit* sessions of a user after *after*, in the order of their creation.

    Raises:
        UserForbidden: a user's key named another user.
    """
    own = (visible(principal, user_id), sessions.c.pk > after)
    return list(tx.execute(select(sessions.c.pk).where(*own).order_by(sessions.c.pk).limit(limit)).scalars())


def rows(tx: Transaction, order: Column[Any], pk: int, *, after: Any, limit: int) -> Page[dict[str, Any]]:
    """Return up to *limit* rows of a session from the table of *order*, in its order, after its value *after*."""
    columns = order.table.c
    own = columns.session_pk == pk if "session_pk" in columns else columns.run_id.in_(_runs_of(pk))
    return _page(tx, order, own, after=after, limit=limit)


def own_rows(tx: Transaction, order: Column[Any], user_id: str, *, after: Any, limit: int) -> Page[dict[str, Any]]:
    """Return up to *limit* rows of a user from the table of *order*, in its order, after its value *after*."""
    table = order.table
    return _page(tx, order, table.c.user_id == user_id, after=after, limit=limit)


def _runs_of(pk: int) -> Select[tuple[str]]:
    return select(runs.c.id).where(runs.c.session_pk == pk)


def _page(
    tx: Transaction, order: Column[Any], own: ColumnElement[bool], *, after: Any, limit: int
) -> Page[dict[str, Any]]:
    table = order.table
    statement = select(table).select_from(table).where(own, order > after).order_by(order)
    rows, more = pages.fitting(tx, statement, pages.size_of_row(table), limit=limit)
    return pages.page((dict(row._mapping) for row in rows), more=more)


def erase_some_keys(tx: Transaction, user_id: str, *, limit: int) -> bool:
    """Erase up to *limit* keys of a user's requests, and return whether there may be more."""
    first = select(idempotency.c.key).where(idempotency.c.user_id == user_id).limit(limit)
    keys = list(tx.execute(first).scalars())
    tx.execute(delete(idempotency).where(idempotency.c.user_id == user_id, idempotency.c.key.in_(keys)))
    return len(keys) == limit


def erase_rest(tx: Transaction, user_id: str) -> int:
    """Erase what a user has outside of sessions, and return how many API keys that were.

    That is: keys of requests, batches, and the user's requests in items of other batches.
    """
    tx.execute(delete(idempotency).where(idempotency.c.user_id == user_id))
    tx.execute(delete(batches).where(batches.c.user_id == user_id))
    batch_items.erase_user(tx, user_id)
    return len(tx.execute(delete(api_keys).where(api_keys.c.user_id == user_id).returning(api_keys.c.id)).all())
