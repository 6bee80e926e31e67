"""Pages of sessions, newest first, each read in the order of one index."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, select, tuple_

from worker.domain import Principal, SessionRow
from worker.store.columns import contains
from worker.store.engine import Transaction
from worker.store.sessions import COLUMNS, visible
from worker.store.tables import sessions


@dataclass(frozen=True, slots=True)
class SessionFilters:
    """Which sessions a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    name: str | None = None
    tag: str | None = None


def matching(tx: Transaction, filters: SessionFilters, *, principal: Principal) -> list[ColumnElement[bool]]:
    """Return the conditions of the filters, for sessions that *principal* may see; no forks.

    Raises:
        UserForbidden: a user's key named another user.
    """
    conditions = [visible(principal, filters.user_id), sessions.c.forked_from.is_(None)]
    if filters.team is not None:
        conditions.append(sessions.c.team_id == filters.team)
    if filters.name is not None:
        conditions.append(sessions.c.name == filters.name)
    if filters.tag is not None:
        conditions.append(contains(tx, sessions.c.tags, filters.tag))
    return conditions


def page(
    tx: Transaction, *, principal: Principal, user_id: str | None, team: str | None, before: int | None, limit: int
) -> list[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, the newest first, those made before *before*; no forks."""
    conditions = matching(tx, SessionFilters(user_id, team), principal=principal)
    if before is not None:
        conditions.append(sessions.c.pk < before)
    return _newest(tx, conditions, (sessions.c.pk,), limit=limit)


def active(
    tx: Transaction, filters: SessionFilters, *, principal: Principal, before: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, latest activity first, after the one of this time and pk.

    Reads a range of an index, of one user's sessions or of all; the index has no forks. Team, name and tag are
    applied to its rows.

    Raises:
        UserForbidden: a user's key named another user.
    """
    conditions = matching(tx, filters, principal=principal)
    order = (sessions.c.updated_at, sessions.c.pk)
    if before is not None:
        conditions.append(tuple_(*order) < before)
    return _newest(tx, conditions, order, limit=limit)


def _newest(
    tx: Transaction, conditions: list[ColumnElement[bool]], order: tuple[Column[Any], ...], *, limit: int
) -> list[tuple[int, SessionRow]]:
    statement = select(sessions.c.pk, *COLUMNS).where(*conditions).order_by(*(column.desc() for column in order))
    return [(row[0], SessionRow(*row[1:])) for row in tx.execute(statement.limit(limit))]
