"""Erase sessions whole, with their forks and all rows that belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from sqlalchemy import delete, func, or_, select

from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.sessions import lock_of_run
from worker.store.tables import idempotency, messages, runs, sessions, summaries
from worker.store.teams import stream_s


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows were erased, if they were counted; `sessions` excludes forks.

    `streaming` are the ids of the runs that may still have a stream.
    """

    sessions: int = 0
    runs: int = 0
    messages: int = 0
    summaries: int = 0
    forks: int = 0
    streaming: tuple[str, ...] = ()

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __bool__(self) -> bool:
        return bool(self.sessions or self.runs)


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork of a session. `root` is the session that it was looked up for, `busy` whether it has an unfinished run."""

    pk: int
    root: int
    busy: bool


def erase_session(tx: Transaction, pk: int, *, streams_s: float = 0, counted: bool = False) -> Erased:
    """Erase a session and its forks; nothing if it is gone. A run that is executed cannot write any more.

    A run's stream is kept for *streams_s* seconds after its end, or for as long as its team says if that is longer.
    Counting the rows takes four queries more: only if *counted*.
    """
    team = tx.execute(select(sessions.c.team_id).where(sessions.c.pk == pk).with_for_update()).scalar_one_or_none()
    if team is None:
        return Erased()
    pks = [pk, *(fork.pk for fork in lock_forks(tx, [pk]))]
    of_sessions = select(runs.c.id).where(runs.c.session_pk.in_(pks))
    tx.execute(delete(idempotency).where(idempotency.c.run_id.in_(of_sessions)))
    return erase_locked(tx, pks, streams_s=max(streams_s, stream_s(tx, team)), counted=counted)


def erase_session_of_run(tx: Transaction, run_id: str) -> None:
    """Erase the session of a run."""
    session = lock_of_run(tx, run_id)
    if session is not None:
        erase_session(tx, session.pk)


def erase_locked(tx: Transaction, pks: Sequence[int], *, streams_s: float, counted: bool = True) -> Erased:
    """Erase sessions whose locks are held, aside from the keys of their requests. *pks* includes all their forks."""
    fresh = or_(runs.c.finished_at.is_(None), runs.c.finished_at > db_time(-streams_s))
    streaming = tx.execute(select(runs.c.id).where(runs.c.session_pk.in_(pks), fresh)).scalars().all()
    counts = _counts(tx, pks) if counted else Erased()
    tx.execute(delete(sessions).where(sessions.c.pk.in_(pks)))
    return replace(counts, streaming=tuple(streaming))


def _counts(tx: Transaction, pks: Sequence[int]) -> Erased:
    of_sessions = select(func.count(), func.count(sessions.c.forked_from)).where(sessions.c.pk.in_(pks))
    count, forks = tx.execute(of_sessions).one()
    of_runs, of_messages, of_summaries = (
        tx.execute(select(func.count()).where(table.c.session_pk.in_(pks))).scalar_one()
        for table in (runs, messages, summaries)
    )
    return Erased(count - forks, of_runs, of_messages, of_summaries, forks)


def lock_forks(tx: Transaction, pks: Sequence[int]) -> list[Fork]:
    """Lock and return all forks of these sessions, and the forks of forks. None is added while a lock is held."""
    root, forks, level = {pk: pk for pk in pks}, [], list(pks)
    columns = (sessions.c.pk, sessions.c.forked_from, sessions.c.head_run_id)
    while level:
        rows = tx.execute(select(*columns).where(sessions.c.forked_from.in_(level)).with_for_update()).all()
        root |= {row.pk: root[row.forked_from] for row in rows}
        forks += [Fork(row.pk, root[row.pk], row.head_run_id is not None) for row in rows]
        level = [row.pk for row in rows]
    return forks
