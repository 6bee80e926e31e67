"""Rows of summaries: one a version, written by compare-and-set on the session's current one."""

from dataclasses import dataclass

from sqlalchemy import bindparam, case, delete, exists, func, insert, select, update

from worker.domain import Due, Summary, SummaryDraft, Viewpoint
from worker.store.columns import db_time, from_columns
from worker.store.engine import Transaction
from worker.store.hot import Hot
from worker.store.sessions import due_of
from worker.store.tables import messages, runs, sessions, summaries
from worker.store.usage import columns, usage_of


@dataclass(frozen=True, slots=True)
class Base:
    """What the next version is built from: the current one, and where the messages of finished runs end.

    `begins`: the first messages still exist. False: retention removed them, and only the summary covers them.
    """

    version: int
    text: str
    covers_through_seq: int
    finished_seq: int
    finished_position: int
    begins: bool = True


@dataclass(frozen=True, slots=True)
class Current:
    """A session's summary for a context; empty, and covering nothing, if there is none."""

    text: str
    covers_through_seq: int
    covers_position: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a new version leaves uncovered: finished messages up to `finished_seq`, `size` characters of history."""

    finished_seq: int
    size: int
    due: Due | None


_head = runs.alias("head")
# The head's own messages are not finished, and come after all others.
_finished = case((_head.c.first_seq.is_not(None), _head.c.first_seq - 1), else_=sessions.c.last_seq)
_current = (summaries.c.session_pk == sessions.c.pk) & (summaries.c.version == sessions.c.summary_version)


def base(tx: Transaction, session_pk: int) -> Base | None:
    """Return what the next version is built from; None: the session is gone."""
    position = func.coalesce(_head.c.position - 1, sessions.c.run_count)
    text = func.coalesce(summaries.c.text, "")
    begins = exists().where(messages.c.session_pk == session_pk, messages.c.seq == 1)
    statement = (
        select(sessions.c.summary_version, text, sessions.c.covers_through_seq, _finished, position, begins)
        .select_from(sessions.outerjoin(_head, _head.c.id == sessions.c.head_run_id).outerjoin(summaries, _current))
        .where(sessions.c.pk == session_pk)
    )
    row = tx.execute(statement).one_or_none()
    return None if row is None else Base(*row)


def current(tx: Transaction, session_pk: int) -> Current:
    """Return the current summary of an existing session."""
    row = _CURRENT.one_or_none(tx, {"session_pk": session_pk})
    return Current("", 0, 0) if row is None else Current(*row)


def as_of(tx: Transaction, seen_from: Viewpoint) -> Current:
    """Return the summary that an earlier run saw, from the versions that are kept.

    The newest version of that time; if it is not kept any more, the newest that ends before the run. The position is
    0 if the last message that it covers was removed.
    """
    existed = case((summaries.c.created_at <= seen_from.at, 0), else_=1)
    last = (messages.c.session_pk == summaries.c.session_pk) & (messages.c.seq == summaries.c.covers_through_seq)
    row = tx.execute(
        select(summaries.c.text, summaries.c.covers_through_seq, func.coalesce(runs.c.position, 0))
        .select_from(summaries.outerjoin(messages, last).outerjoin(runs, runs.c.id == messages.c.run_id))
        .where(summaries.c.session_pk == seen_from.session_pk)
        .where(summaries.c.covers_through_seq < seen_from.first_seq)
        .order_by(existed, summaries.c.version.desc())
        .limit(1)
    ).one_or_none()
    return Current("", 0, 0) if row is None else Current(*row)


# Built once: each run of a team with summaries sends it, and building it took longer than executing it.
_CURRENT = Hot(
    select(func.coalesce(summaries.c.text, ""), sessions.c.covers_through_seq, sessions.c.summary_position)
    .select_from(sessions.outerjoin(summaries, _current))
    .where(sessions.c.pk == bindparam("session_pk"))
)


def cover(tx: Transaction, session_pk: int, on: Base, draft: SummaryDraft) -> Left | None:
    """Move the session's summary forward if it is still *on*; None: it is not, and nothing is written.

    Takes the session's lock. A draft without pieces makes no version: the covered messages had nothing to summarise.
    """
    left = sessions.c.unsummarised - draft.size
    unchanged = (sessions.c.summary_version == on.version, sessions.c.covers_through_seq == on.covers_through_seq)
    moved = tx.execute(
        update(sessions)
        .where(sessions.c.pk == session_pk, *unchanged)
        .values(
            summary_version=on.version + (draft.pieces > 0),
            covers_through_seq=draft.covers_through_seq,
            summary_position=draft.covers_position,
            unsummarised=case((left > 0, left), else_=0),
        )
        .returning(sessions.c.unsummarised, sessions.c.due_messages, sessions.c.due_size)
    ).one_or_none()
    if moved is None:
        return None
    with_head = sessions.outerjoin(_head, _head.c.id == sessions.c.head_run_id)
    finished = select(_finished).select_from(with_head).where(sessions.c.pk == session_pk)
    return Left(tx.execute(finished).scalar_one(), moved.unsummarised, due_of(moved))


def is_covered(tx: Transaction, session_pk: int, on: Base, draft: SummaryDraft) -> bool:
    """Tell whether `cover` and `add` have made *draft* the summary after *on*. The caller holds the session's lock."""
    text = func.coalesce(summaries.c.text, "")
    columns = (sessions.c.summary_version, sessions.c.covers_through_seq, text)
    current = select(*columns).select_from(sessions.outerjoin(summaries, _current)).where(sessions.c.pk == session_pk)
    expected = (on.version + 1, draft.text) if draft.pieces else (on.version, on.text)
    row = tx.execute(current).one()
    return (row[0], row[2]) == expected and row[1] == draft.covers_through_seq


def add(tx: Transaction, session_pk: int, version: int, draft: SummaryDraft, *, keep: int) -> None:
    """Write a version, and delete all but the newest *keep*. The caller holds the session's lock."""
    row = {name: getattr(draft, name) for name in ("covers_through_seq", "text", "topics", "model", "prompt_hash")}
    row |= {"session_pk": session_pk, "version": version, "created_at": db_time(), **columns(draft.usage)}
    tx.execute(insert(summaries).values(**row))
    old = (summaries.c.session_pk == session_pk, summaries.c.version <= version - keep)
    tx.execute(delete(summaries).where(*old))


def get(tx: Transaction, session_pk: int, *, version: int | None = None) -> Summary | None:
    """Return the session's current summary, or an older *version* of it; None: there is none."""
    of_session = summaries.c.session_pk == sessions.c.pk
    covers = case(
        (summaries.c.version == sessions.c.summary_version, sessions.c.covers_through_seq),
        else_=summaries.c.covers_through_seq,
    ).label("covers")
    statement = (
        select(summaries, covers, (sessions.c.last_seq - covers).label("behind"))
        .join(sessions, _current if version is None else of_session & (summaries.c.version == version))
        .where(sessions.c.pk == session_pk)
    )
    row = tx.execute(statement).one_or_none()
    if row is None:
        return None
    return from_columns(Summary, row, covers_through_seq=row.covers, usage=usage_of(row), refresh=None)
