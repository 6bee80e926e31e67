"""Pages of runs, newest first, each read in the order of one index."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from worker.domain import Principal, Run, Status
from worker.store.engine import Transaction
from worker.store.runs import COLUMNS, from_row
from worker.store.sessions import find, visible
from worker.store.tables import idempotency, runs, sessions

LISTED = "run"  # lists start at this id: ids of replays, 'replay_…', sort before it


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Which runs a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    status: Status | None = None
    session_id: str | None = None
    idempotency_key: str | None = None


def page(tx: Transaction, filters: RunFilters, *, principal: Principal, before: str | None, limit: int) -> list[Run]:
    """Return up to *limit* runs that *principal* may see, newest first, older than the run *before*.

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
        conditions.append(runs.c.status == filters.status)
    if filters.idempotency_key is not None:
        acting = principal.acting_for(filters.user_id)
        conditions.append(runs.c.id.in_(_under_key(tx, filters.idempotency_key, acting)))
    if before is not None:
        conditions.append(order < last)
    own = select(*COLUMNS).join(sessions, sessions.c.pk == runs.c.session_pk)
    return [from_row(row) for row in tx.execute(own.where(*conditions).order_by(order.desc()).limit(limit))]


def _under_key(tx: Transaction, key: str, acting: str | None) -> Select[tuple[str]] | list[str]:
    with_key = select(idempotency.c.run_id).where(idempotency.c.key == key)
    if acting is None:
        return with_key
    # At most one, read by a query of its own: SQLite would otherwise scan all runs of the user.
    return list(tx.execute(with_key.where(idempotency.c.user_id == acting)).scalars())
