"""Pages of runs, newest first, as one index each holds them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from worker.domain.principal import Principal
from worker.domain.run import Run, Status
from worker.store.engine import Transaction
from worker.store.runs import COLUMNS, from_row
from worker.store.sessions import find, visible
from worker.store.tables import idempotency, runs, sessions

LISTED = "run"  # where the ids of the runs begin that lists show: those of replays, 'replay_…', sort before them


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Which runs a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    status: Status | None = None
    session_id: str | None = None
    idempotency_key: str | None = None


def page(tx: Transaction, wanted: RunFilters, *, principal: Principal, before: str | None, limit: int) -> list[Run]:
    """Return up to *limit* runs that *principal* may see, newest first, behind the run *before*.

    Each filter is the beginning of an index that holds the list in its order; further ones are applied to what comes.
    In one session the order is that of acceptance, else that of the ids, which sort by time. Replays are shown where
    their session is named.

    Raises:
        UserForbidden: a user's key named another user.
    """
    place: ColumnElement[Any] = runs.c.id
    shown: Any = before
    conditions = [visible(principal, wanted.user_id, of=runs)]
    if wanted.session_id is not None:
        found = find(tx, session_id=wanted.session_id, principal=principal, user_id=wanted.user_id)
        if len(found) == 1:
            last = runs.alias("last")
            shown = select(last.c.position).where(last.c.id == before).scalar_subquery()
            place, conditions = runs.c.position, [runs.c.session_pk == found[0].pk]
        else:
            conditions.append(sessions.c.session_id == wanted.session_id)
    else:
        conditions.append(place >= LISTED)
    if wanted.team is not None:
        conditions.append(runs.c.team_id == wanted.team)
    if wanted.status is not None:
        conditions.append(runs.c.status == wanted.status)
    if wanted.idempotency_key is not None:
        acting = principal.acting_for(wanted.user_id)
        conditions.append(runs.c.id.in_(_under_key(tx, wanted.idempotency_key, acting)))
    if before is not None:
        conditions.append(place < shown)
    own = select(*COLUMNS).join(sessions, sessions.c.pk == runs.c.session_pk)
    return [from_row(row) for row in tx.execute(own.where(*conditions).order_by(place.desc()).limit(limit))]


def _under_key(tx: Transaction, key: str, acting: str | None) -> Select[tuple[str]] | list[str]:
    taken = select(idempotency.c.run_id).where(idempotency.c.key == key)
    if acting is None:
        return taken
    # One at most, and asked for first: SQLite would rather go through all runs of the user than through this.
    return list(tx.execute(taken.where(idempotency.c.user_id == acting)).scalars())
