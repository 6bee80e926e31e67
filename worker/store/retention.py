"""What has reached the end of its lifetime: found in ranges of indexes, and removed under its session's lock.

Whatever is found is looked at again once the lock is held: a session that was used meanwhile stays, one that somebody
holds is passed by, and what somebody still needs is left for a later round. `decisions/0019` has the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, delete, exists, func, or_, select, tuple_, update

from worker.domain.retention import Lifetimes
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.tables import batch_items, batches, messages, runs, sessions, summary_jobs

RUNS = 100  # of one session that are looked at together
_idle = and_(sessions.c.forked_from.is_(None), sessions.c.head_run_id.is_(None))
_open_item = and_(batch_items.c.ended_at.is_(None), batches.c.finished_at.is_(None))


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows have gone, and the runs among them that may have a stream."""

    sessions: int = 0
    runs: int = 0
    messages: int = 0
    streaming: tuple[str, ...] = ()

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(
            self.sessions + other.sessions,
            self.runs + other.runs,
            self.messages + other.messages,
            self.streaming + other.streaming,
        )

    def __bool__(self) -> bool:
        return bool(self.sessions or self.runs)


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session whose time is over, as its index has it; `size` is how many messages were written to it."""

    updated_at: datetime
    pk: int
    size: int


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run whose time is over. Not `free`: its session is busy, or no summary covers it yet that shall."""

    finished_at: datetime
    id: str
    session_pk: int
    free: bool


def next_team(tx: Transaction, *, after: str | None) -> str | None:
    """Return the first team behind *after* that has an idle session, whether a worker knows it or not; None: none."""
    behind = [] if after is None else [sessions.c.team_id > after]
    team: str | None = tx.execute(select(func.min(sessions.c.team_id)).where(_idle, *behind)).scalar_one()
    return team


def idle_sessions(
    tx: Transaction, team: str, *, before: datetime, after: FoundSession | None, limit: int
) -> list[FoundSession]:
    """Return up to *limit* sessions of *team* without activity since *before*, oldest first, behind *after*."""
    conditions = [_idle, sessions.c.team_id == team, sessions.c.updated_at < before]
    if after is not None:
        conditions.append(tuple_(sessions.c.updated_at, sessions.c.pk) > (after.updated_at, after.pk))
    place = (sessions.c.updated_at, sessions.c.pk)
    found = select(*place, sessions.c.last_seq).where(*conditions).order_by(*place).limit(limit)
    return [FoundSession(*row) for row in tx.execute(found)]


def ended_runs(tx: Transaction, team: str, *, before: datetime, after: FoundRun | None, limit: int) -> list[FoundRun]:
    """Return up to *limit* runs of *team* that ended before *before*, oldest first, behind *after*."""
    conditions = [runs.c.team_id == team, runs.c.finished_at.is_not(None), runs.c.finished_at < before]
    if after is not None:
        conditions.append(tuple_(runs.c.finished_at, runs.c.id) > (after.finished_at, after.id))
    place = (runs.c.finished_at, runs.c.id)
    # The limit stands inside: what is not free is passed by, and never looked through for what is.
    oldest = (
        select(*place, runs.c.session_pk, runs.c.last_seq).where(*conditions).order_by(*place).limit(limit).subquery()
    )
    covered = or_(sessions.c.due_messages.is_(None), oldest.c.last_seq <= sessions.c.covers_through_seq)
    free = func.coalesce(and_(sessions.c.head_run_id.is_(None), covered), False)
    found = select(oldest.c.finished_at, oldest.c.id, oldest.c.session_pk, free)
    of_session = found.join(sessions, sessions.c.pk == oldest.c.session_pk)
    return [FoundRun(*row) for row in tx.execute(of_session.order_by(oldest.c.finished_at, oldest.c.id))]


def count_due(tx: Transaction, team: str, kept: Lifetimes, *, now: Any) -> tuple[int, int]:
    """Return how many sessions and runs of *team* are past their lifetimes. Those that somebody needs stay longer."""
    of_team = (_idle, sessions.c.team_id == team)
    ended = (runs.c.team_id == team, runs.c.finished_at.is_not(None))
    asked = ((sessions.c.updated_at, kept.sessions_s, of_team), (runs.c.finished_at, kept.runs_s, ended))
    counts = [
        0
        if seconds is None
        else int(tx.execute(select(func.count()).where(*conditions, at < now(seconds))).scalar_one())
        for at, seconds, conditions in asked
    ]
    return counts[0], counts[1]


def remove_sessions(
    tx: Transaction, pks: Sequence[int], *, before: datetime, streams_s: float
) -> tuple[Removed, list[int]]:
    """Remove those of these sessions that are idle since *before*, whole and with their forks; none is gone on with.

    Not one that somebody holds, that a replay is under way beside, or that an item of an unfinished batch is about. The
    keys of requests stay: the same order again finds that its run has gone, and makes no other.
    """
    idle = (sessions.c.pk.in_(pks), _idle, sessions.c.updated_at < before)
    held = tx.execute(select(sessions.c.pk).where(*idle).with_for_update(skip_locked=True)).scalars()
    root, needed = _with_forks(tx, list(held))
    needed |= {root[pk] for pk in _asked_for(tx, list(root))}
    gone = [pk for pk in root if root[pk] not in needed]
    return _remove_whole(tx, gone, streams_s=streams_s) if gone else Removed(), []


def remove_runs(
    tx: Transaction, pks: Sequence[int], *, before: datetime, size: int, streams_s: float
) -> tuple[Removed, list[int]]:
    """Remove the first runs of these sessions that ended before *before*; say which sessions are to be gone on with.

    About *size* messages in all, at least one run. In a session the oldest first, so that what is left has no gap. It
    stops at a run that no summary covers yet, where the team has summaries, that a replay repeats, or that an
    unfinished batch waits for. Nothing while the session is busy, its summary is refreshed, or a replay is under way
    beside it. A fork goes whole, or not at all.
    """
    removed = Removed()
    for n, pk in enumerate(pks):
        left = size - removed.messages
        if left <= 0:
            return removed, list(pks[n:])
        one, more = _remove_first(tx, pk, before=before, size=left, streams_s=streams_s)
        removed += one
        if more:
            return removed, list(pks[n:])
    return removed, []


def _with_forks(tx: Transaction, pks: list[int]) -> tuple[dict[int, int], set[int]]:
    """Return these sessions and all their forks, each with the one of *pks* that it goes with; and which are needed.

    Needed is what a replay is under way beside: it reads the past of the session.
    """
    root, needed, level = {pk: pk for pk in pks}, set(), pks
    while level:
        columns = (sessions.c.pk, sessions.c.forked_from, sessions.c.head_run_id)
        found = tx.execute(select(*columns).where(sessions.c.forked_from.in_(level)).with_for_update()).all()
        root |= {row.pk: root[row.forked_from] for row in found}
        needed |= {root[row.pk] for row in found if row.head_run_id is not None}
        level = [row.pk for row in found]
    return root, needed


def _asked_for(tx: Transaction, pks: list[int]) -> set[int]:
    """Return those of these sessions that an open item of an unfinished batch is about, or has made a run in."""
    if not pks:
        return set()
    about = select(batch_items.c.session_pk).join(batches).where(_open_item, batch_items.c.session_pk.in_(pks))
    made = select(runs.c.session_pk).join(batch_items, batch_items.c.run_id == runs.c.id).join(batches)
    found = about.union(made.where(_open_item, runs.c.session_pk.in_(pks)))
    return set(tx.execute(found).scalars())


def _remove_first(tx: Transaction, pk: int, *, before: datetime, size: int, streams_s: float) -> tuple[Removed, bool]:
    """Remove the first runs of a session that may go, and say whether there may be more behind what fits."""
    columns = (sessions.c.forked_from, sessions.c.run_count, sessions.c.covers_through_seq, sessions.c.due_messages)
    idle = (sessions.c.pk == pk, sessions.c.head_run_id.is_(None))
    row = tx.execute(select(*columns).where(*idle).with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return Removed(), False
    root, needed = _with_forks(tx, [pk])
    refreshed = exists().where(summary_jobs.c.session_pk == pk, summary_jobs.c.send_at.is_not(None))
    if needed or _asked_for(tx, list(root)) or tx.execute(select(refreshed)).scalar_one():
        return Removed(), False
    covered = None if row.due_messages is None else int(row.covers_through_seq)
    gone, more = _first_runs(tx, pk, before=before, size=size, covered=covered, streams_s=streams_s)
    if not gone:
        return Removed(), False
    if row.forked_from is not None:
        whole = gone[-1].position == row.run_count
        return _remove_whole(tx, [pk], streams_s=streams_s) if whole else Removed(), False
    of_session = (messages.c.session_pk == pk, messages.c.seq <= gone[-1].last_seq)
    if covered is None:
        _forget_size(tx, pk, messages.c.seq > row.covers_through_seq, *of_session)
    count = tx.execute(delete(messages).where(*of_session)).rowcount
    tx.execute(delete(runs).where(runs.c.session_pk == pk, runs.c.position <= gone[-1].position))
    return Removed(0, len(gone), count, tuple(run.id for run in gone if run.streaming)), more


def _first_runs(
    tx: Transaction, pk: int, *, before: datetime, size: int, covered: int | None, streams_s: float
) -> tuple[list[Any], bool]:
    """Return the first runs of a session that may go, in order; and whether others were left out for their size."""
    replay = runs.alias("replay")
    repeated = exists().where(replay.c.replay_of == runs.c.id, replay.c.replay_of.is_not(None)).label("repeated")
    ended = (runs.c.finished_at < before).label("ended")
    streaming = (runs.c.finished_at > db_time(-streams_s)).label("streaming")
    columns = (runs.c.id, runs.c.position, runs.c.first_seq, runs.c.last_seq, ended, streaming, repeated)
    found = tx.execute(select(*columns).where(runs.c.session_pk == pk).order_by(runs.c.position).limit(RUNS))
    gone: list[Any] = []
    for run in found.all():
        if not run.ended or run.repeated or run.last_seq is None or (covered is not None and run.last_seq > covered):
            break
        if gone and run.last_seq - gone[0].first_seq >= size:
            return gone, True
        gone.append(run)
    return gone, len(gone) == RUNS


def _forget_size(tx: Transaction, pk: int, *which: ColumnElement[bool]) -> None:
    """Take what messages add to the history, about, from what the session says is not summarised."""
    said = func.length(messages.c.content) + func.coalesce(func.length(cast(messages.c.tool_calls, Text)), 0)
    size = tx.execute(select(func.sum(said)).where(messages.c.delegation.is_(None), *which)).scalar_one() or 0
    left = sessions.c.unsummarised - int(size)
    tx.execute(update(sessions).where(sessions.c.pk == pk).values(unsummarised=case((left > 0, left), else_=0)))


def _remove_whole(tx: Transaction, pks: list[int], *, streams_s: float) -> Removed:
    """Remove sessions with all that hangs on them; the forks among them are not counted as sessions."""
    fresh = runs.c.finished_at > db_time(-streams_s)
    streaming = tx.execute(select(runs.c.id).where(runs.c.session_pk.in_(pks), fresh)).scalars().all()
    of_runs, of_messages = (
        tx.execute(select(func.count()).where(table.c.session_pk.in_(pks))).scalar_one() for table in (runs, messages)
    )
    of_sessions = select(func.count()).where(sessions.c.pk.in_(pks), sessions.c.forked_from.is_(None))
    removed = Removed(tx.execute(of_sessions).scalar_one(), of_runs, of_messages, tuple(streaming))
    tx.execute(delete(sessions).where(sessions.c.pk.in_(pks)))
    return removed
