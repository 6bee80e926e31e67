"""All that there is of one user: counted, read in order, erased."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, func, select

from worker.domain.principal import Principal
from worker.store import batch_items
from worker.store.engine import Transaction
from worker.store.sessions import erase as erase_session
from worker.store.sessions import forks, lock, visible
from worker.store.tables import api_keys, batches, idempotency, messages, runs, sessions, summaries


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows of each kind were erased, and the runs that may have a stream."""

    sessions: int = 0
    runs: int = 0
    messages: int = 0
    summaries: int = 0
    streaming: tuple[str, ...] = ()

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(
            self.sessions + other.sessions,
            self.runs + other.runs,
            self.messages + other.messages,
            self.summaries + other.summaries,
            self.streaming + other.streaming,
        )


def session_pks(tx: Transaction, *, principal: Principal, user_id: str, after: int, limit: int) -> list[int]:
    """Return our keys of up to *limit* sessions of a user behind *after*, in the order in which they were made.

    Raises:
        UserForbidden: a user's key named another user.
    """
    own = (visible(principal, user_id), sessions.c.pk > after)
    return list(tx.execute(select(sessions.c.pk).where(*own).order_by(sessions.c.pk).limit(limit)).scalars())


def erase(tx: Transaction, pk: int, *, streams_s: float) -> Erased:
    """Remove one session with all that hangs on it, its forks too, and say what that was; nothing, if it is gone."""
    if not lock(tx, pk):
        return Erased()
    of_forks = sum((erase(tx, fork, streams_s=streams_s) for fork in forks(tx, pk)), Erased())
    of_runs, of_messages, of_summaries = (_count(tx, table, pk) for table in (runs, messages, summaries))
    streaming = erase_session(tx, pk, streams_s=streams_s)
    return of_forks + Erased(1, of_runs, of_messages, of_summaries, tuple(streaming))


def erase_rest(tx: Transaction, user_id: str) -> int:
    """Remove what a user has without a session, and return how many API keys of theirs that were.

    Keys of requests, batches of theirs, and what was asked for them in the items of other batches.
    """
    tx.execute(delete(idempotency).where(idempotency.c.user_id == user_id))
    tx.execute(delete(batches).where(batches.c.user_id == user_id))
    batch_items.forget_user(tx, user_id)
    return len(tx.execute(delete(api_keys).where(api_keys.c.user_id == user_id).returning(api_keys.c.id)).all())


def rows(tx: Transaction, table: Table, pk: int, *, after: Any, limit: int) -> list[dict[str, Any]]:
    """Return up to *limit* rows of a session behind *after*: runs by position, messages by seq, else by version."""
    place = {"runs": runs.c.position, "messages": messages.c.seq, "summaries": summaries.c.version}[table.name]
    statement = select(table).where(table.c.session_pk == pk, place > after).order_by(place).limit(limit)
    return [dict(row._mapping) for row in tx.execute(statement)]


def _count(tx: Transaction, table: Table, pk: int) -> int:
    return int(tx.execute(select(func.count()).select_from(table).where(table.c.session_pk == pk)).scalar_one())
