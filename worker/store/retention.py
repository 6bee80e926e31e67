"""Find what has reached the end of its lifetime by ranges of indexes, and remove it under its session's lock.

Every candidate is checked again once the lock is held. A session that was used in between stays. One that is locked by
another transaction is skipped, and what is still needed is left for a later round. Rules: `decisions/0019`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, or_, select, tuple_, update

from worker.domain import Lifetimes
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.erasure import Erased, erase_locked, lock_forks
from worker.store.messages import SIZE
from worker.store.tables import batch_items, batches, messages, runs, sessions, summary_jobs

RUNS = 100  # runs of one session that are checked together
_idle = and_(sessions.c.forked_from.is_(None), sessions.c.head_run_id.is_(None))
_open_item = and_(batch_items.c.ended_at.is_(None), batches.c.finished_at.is_(None))


@dataclass(frozen=True, slots=True)
class ExpiredSession:
    """A session past its lifetime. `size` is how many messages were written to it."""

    updated_at: datetime
    pk: int
    size: int


@dataclass(frozen=True, slots=True)
class ExpiredRun:
    """A run past its lifetime. Not `free`: its session is busy, or a summary has to cover it first."""

    finished_at: datetime
    id: str
    session_pk: int
    free: bool


def next_team(tx: Transaction, *, after: str | None) -> str | None:
    """Return the first team after *after* that has an idle session, even if no worker knows the team; None: none."""
    later = [] if after is None else [sessions.c.team_id > after]
    team: str | None = tx.execute(select(func.min(sessions.c.team_id)).where(_idle, *later)).scalar_one()
    return team


def idle_sessions(
    tx: Transaction, team: str, *, before: datetime, after: ExpiredSession | None, limit: int
) -> list[ExpiredSession]:
    """Return up to *limit* sessions of *team* without activity since *before*, oldest first, after *after*."""
    conditions = [_idle, sessions.c.team_id == team, sessions.c.updated_at < before]
    order = (sessions.c.updated_at, sessions.c.pk)
    if after is not None:
        conditions.append(tuple_(*order) > (after.updated_at, after.pk))
    oldest = select(*order, sessions.c.last_seq).where(*conditions).order_by(*order).limit(limit)
    return [ExpiredSession(*row) for row in tx.execute(oldest)]


def ended_runs(
    tx: Transaction, team: str, *, before: datetime, after: ExpiredRun | None, limit: int
) -> list[ExpiredRun]:
    """Return up to *limit* runs of *team* that ended before *before*, oldest first, after *after*."""
    conditions = [runs.c.team_id == team, runs.c.finished_at.is_not(None), runs.c.finished_at < before]
    order = (runs.c.finished_at, runs.c.id)
    if after is not None:
        conditions.append(tuple_(*order) > (after.finished_at, after.id))
    columns = (*order, runs.c.session_pk, runs.c.last_seq)
    # The limit is in the subquery, so that a statement reads this many index rows however few of them are free.
    oldest = select(*columns).where(*conditions).order_by(*order).limit(limit).subquery()
    covered = or_(sessions.c.due_messages.is_(None), oldest.c.last_seq <= sessions.c.covers_through_seq)
    free = func.coalesce(and_(sessions.c.head_run_id.is_(None), covered), False)
    statement = select(oldest.c.finished_at, oldest.c.id, oldest.c.session_pk, free)
    with_session = statement.join(sessions, sessions.c.pk == oldest.c.session_pk)
    return [ExpiredRun(*row) for row in tx.execute(with_session.order_by(oldest.c.finished_at, oldest.c.id))]


def count_due(tx: Transaction, team: str, kept: Lifetimes, *, now: Any) -> tuple[int, int]:
    """Return how many sessions and runs of *team* are past their lifetimes, including those that are still needed."""

    def count(seconds: float | None, at: ColumnElement[Any], *conditions: ColumnElement[bool]) -> int:
        if seconds is None:
            return 0
        return int(tx.execute(select(func.count()).where(*conditions, at < now(seconds))).scalar_one())

    ended = runs.c.finished_at.is_not(None)
    return (
        count(kept.sessions_s, sessions.c.updated_at, _idle, sessions.c.team_id == team),
        count(kept.runs_s, runs.c.finished_at, ended, runs.c.team_id == team),
    )


def remove_sessions(
    tx: Transaction, pks: Sequence[int], *, before: datetime, streams_s: float
) -> tuple[Erased, list[int]]:
    """Remove those of these sessions that are idle since *before*, with their forks. No session needs another pass.

    A session stays if another transaction has locked it, if a fork of it has an unfinished replay, or if an item of an
    unfinished batch uses it. The keys of requests stay, so that a repeated request does not make a new run.
    """
    idle = (sessions.c.pk.in_(pks), _idle, sessions.c.updated_at < before)
    locked = list(tx.execute(select(sessions.c.pk).where(*idle).with_for_update(skip_locked=True)).scalars())
    root, needed = _with_forks(tx, locked)
    needed |= {root[pk] for pk in _used_by_batches(tx, list(root))}
    free = [pk for pk in root if root[pk] not in needed]
    return erase_locked(tx, free, streams_s=streams_s) if free else Erased(), []


def remove_runs(
    tx: Transaction, pks: Sequence[int], *, before: datetime, size: int, streams_s: float
) -> tuple[Erased, list[int]]:
    """Remove the first runs of these sessions that ended before *before*; return the sessions that need another pass.

    About *size* messages in all, and at least one run. Runs are removed oldest first, so that no gap is left. In a
    session it stops at a run that no summary covers yet, where the team has summaries; at one that a replay repeats;
    and at one that an unfinished batch waits for. A session stays as it is while it is busy, while its summary is
    refreshed, or while a fork of it has an unfinished replay. A fork is removed whole or not at all.
    """
    erased = Erased()
    for n, pk in enumerate(pks):
        left = size - erased.messages
        if left <= 0:
            return erased, list(pks[n:])
        from_session, more = _remove_first(tx, pk, before=before, size=left, streams_s=streams_s)
        erased += from_session
        if more:
            return erased, list(pks[n:])
    return erased, []


def _with_forks(tx: Transaction, pks: Sequence[int]) -> tuple[dict[int, int], set[int]]:
    """Return these sessions and their forks, each with its root among *pks*, and the roots with an unfinished replay.

    Such a replay still reads the history of the root.
    """
    forks = lock_forks(tx, pks)
    return {**{pk: pk for pk in pks}, **{fork.pk: fork.root for fork in forks}}, {f.root for f in forks if f.busy}


def _used_by_batches(tx: Transaction, pks: list[int]) -> set[int]:
    """Return the sessions that an open item of an unfinished batch names, or has made a run in."""
    if not pks:
        return set()
    named = select(batch_items.c.session_pk).join(batches).where(_open_item, batch_items.c.session_pk.in_(pks))
    with_run = select(runs.c.session_pk).join(batch_items, batch_items.c.run_id == runs.c.id).join(batches)
    return set(tx.execute(named.union(with_run.where(_open_item, runs.c.session_pk.in_(pks)))).scalars())


def _remove_first(tx: Transaction, pk: int, *, before: datetime, size: int, streams_s: float) -> tuple[Erased, bool]:
    """Remove the first runs of a session that can go, and say whether *size* left out others."""
    columns = (sessions.c.forked_from, sessions.c.run_count, sessions.c.covers_through_seq, sessions.c.due_messages)
    idle = (sessions.c.pk == pk, sessions.c.head_run_id.is_(None))
    row = tx.execute(select(*columns).where(*idle).with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return Erased(), False
    root, needed = _with_forks(tx, [pk])
    refreshed = exists().where(summary_jobs.c.session_pk == pk, summary_jobs.c.send_at.is_not(None))
    if needed or _used_by_batches(tx, list(root)) or tx.execute(select(refreshed)).scalar_one():
        return Erased(), False
    covered = None if row.due_messages is None else int(row.covers_through_seq)
    first, more = _first_runs(tx, pk, before=before, size=size, covered=covered, streams_s=streams_s)
    if not first:
        return Erased(), False
    if row.forked_from is not None:
        whole = first[-1].position == row.run_count
        return erase_locked(tx, [pk], streams_s=streams_s) if whole else Erased(), False
    of_session = (messages.c.session_pk == pk, messages.c.seq <= first[-1].last_seq)
    if covered is None:
        _subtract_size(tx, pk, messages.c.seq > row.covers_through_seq, *of_session)
    count = tx.execute(delete(messages).where(*of_session)).rowcount
    tx.execute(delete(runs).where(runs.c.session_pk == pk, runs.c.position <= first[-1].position))
    return Erased(runs=len(first), messages=count, streaming=tuple(run.id for run in first if run.streaming)), more


def _first_runs(
    tx: Transaction, pk: int, *, before: datetime, size: int, covered: int | None, streams_s: float
) -> tuple[list[Any], bool]:
    """Return the first runs of a session that can go, in order, and whether *size* left out others."""
    replay = runs.alias("replay")
    repeated = exists().where(replay.c.replay_of == runs.c.id, replay.c.replay_of.is_not(None)).label("repeated")
    ended = (runs.c.finished_at < before).label("ended")
    streaming = (runs.c.finished_at > db_time(-streams_s)).label("streaming")
    columns = (runs.c.id, runs.c.position, runs.c.first_seq, runs.c.last_seq, ended, streaming, repeated)
    rows = tx.execute(select(*columns).where(runs.c.session_pk == pk).order_by(runs.c.position).limit(RUNS)).all()
    first: list[Any] = []
    for run in rows:
        if not run.ended or run.repeated or run.last_seq is None or (covered is not None and run.last_seq > covered):
            break
        if first and run.last_seq - first[0].first_seq >= size:
            return first, True
        first.append(run)
    return first, len(first) == RUNS


def _subtract_size(tx: Transaction, pk: int, *conditions: ColumnElement[bool]) -> None:
    """Subtract the size of messages, roughly, from the part of the history that is not summarised."""
    size = tx.execute(select(func.sum(SIZE)).where(messages.c.delegation.is_(None), *conditions)).scalar_one() or 0
    left = sessions.c.unsummarised - int(size)
    tx.execute(update(sessions).where(sessions.c.pk == pk).values(unsummarised=case((left > 0, left), else_=0)))
