"""Pages of sessions, newest first, as one index each holds them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_

from worker.domain.principal import Principal
from worker.domain.session import SessionRow
from worker.store.columns import holds
from worker.store.engine import Transaction
from worker.store.sessions import COLUMNS, visible
from worker.store.tables import sessions


def page(
    tx: Transaction, *, principal: Principal, user_id: str | None, team: str | None, before: int | None, limit: int
) -> list[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, the newest first, those made before *before*; no forks."""
    conditions = [visible(principal, user_id), sessions.c.forked_from.is_(None)]
    if team is not None:
        conditions.append(sessions.c.team_id == team)
    if before is not None:
        conditions.append(sessions.c.pk < before)
    statement = select(sessions.c.pk, *COLUMNS).where(*conditions).order_by(sessions.c.pk.desc()).limit(limit)
    found: Any = tx.execute(statement)
    return [(row[0], SessionRow(*row[1:])) for row in found]


@dataclass(frozen=True, slots=True)
class SessionFilters:
    """Which sessions a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    name: str | None = None
    tag: str | None = None


def meeting(tx: Transaction, wanted: SessionFilters, *, principal: Principal) -> list[ColumnElement[bool]]:
    """Return the conditions of sessions that are wanted and that *principal* may see; no forks.

    Raises:
        UserForbidden: a user's key named another user.
    """
    conditions = [visible(principal, wanted.user_id), sessions.c.forked_from.is_(None)]
    if wanted.team is not None:
        conditions.append(sessions.c.team_id == wanted.team)
    if wanted.name is not None:
        conditions.append(sessions.c.name == wanted.name)
    if wanted.tag is not None:
        conditions.append(holds(tx, sessions.c.tags, wanted.tag))
    return conditions


def active(
    tx: Transaction, wanted: SessionFilters, *, principal: Principal, before: tuple[datetime, int] | None, limit: int
) -> list[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, latest activity first, behind the one of this time and pk.

    A range of an index, of one user's sessions or of all, which holds no forks; team, name and tag are applied to what
    comes.

    Raises:
        UserForbidden: a user's key named another user.
    """
    conditions = meeting(tx, wanted, principal=principal)
    place = (sessions.c.updated_at, sessions.c.pk)
    if before is not None:
        conditions.append(tuple_(*place) < before)
    newest = (column.desc() for column in place)
    found: Any = tx.execute(select(sessions.c.pk, *COLUMNS).where(*conditions).order_by(*newest).limit(limit))
    return [(row[0], SessionRow(*row[1:])) for row in found]
