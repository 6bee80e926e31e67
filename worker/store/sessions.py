"""Rows of sessions. The row is the lock of everything in its session: take it before any of its runs.

Pages of sessions are newest first, each read in the order of one index.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, func, insert, literal, select, true, tuple_, update

from worker.domain import Due, Principal, SessionRow, StateChange, bounds
from worker.store import pages
from worker.store.columns import columns_of, contains, db_time, from_columns, upsert
from worker.store.engine import Page, Transaction
from worker.store.hot import Hot
from worker.store.tables import runs, sessions

SHAPES = 256  # statements of lists that are kept: one for each set of filters, teams of a key, and limit


@dataclass(frozen=True, slots=True)
class AppendedRun:
    """The position of a newly accepted run in its session."""

    session_pk: int
    team: str
    position: int
    head_run_id: str


@dataclass(frozen=True, slots=True)
class MovedHead:
    """A session whose head has moved: the new head, and how far the summary covers the history."""

    head_run_id: str | None
    run_count: int
    last_seq: int
    summary_version: int
    covers_through_seq: int
    unsummarised: int
    due: Due | None


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A session whose row this transaction has locked."""

    pk: int
    session_id: str
    user_id: str
    team: str
    head_run_id: str | None
    last_seq: int
    run_count: int


@dataclass(frozen=True, slots=True)
class SessionFilters:
    """Which sessions a list is limited to; None: no limit."""

    user_id: str | None = None
    team: str | None = None
    name: str | None = None
    tag: str | None = None


def visible(principal: Principal, user_id: str | None, *, of: Table = sessions) -> ColumnElement[bool]:
    """Return the condition that limits `sessions` to what *principal* may see, for the user that it names.

    The one place where scope becomes SQL. *of* can be `runs` too: each carries its session's user and team.

    Raises:
        UserForbidden: a user's key named another user.
    """
    acting = principal.acting_for(user_id)
    of_user = true() if acting is None else of.c.user_id == acting
    teams = [literal(team) for team in sorted(principal.teams)]  # not one parameter that grows: `Hot` sends these
    return of_user & of.c.team_id.in_(teams) if teams else of_user


def append_run(tx: Transaction, *, user_id: str, session_id: str, team: str, run_id: str) -> AppendedRun:
    """Append a run to the session, which is created if it is new. Takes the lock.

    The run becomes the head if there is none. The caller checks the team: a session belongs to one.
    """
    new = {"user_id": user_id, "session_id": session_id, "team_id": team, "head_run_id": run_id}
    return AppendedRun(*_append_run(tx.dialect.name).one(tx, new))


@cache
def _append_run(dialect: str) -> Hot:
    now = {"created_at": db_time(), "updated_at": db_time()}
    new = upsert(dialect, sessions).values(run_count=1, last_seq=0, tags=[], metadata={}, state={}, **now)
    head = func.coalesce(sessions.c.head_run_id, new.excluded.head_run_id)
    changed = {"run_count": sessions.c.run_count + 1, "head_run_id": head, "updated_at": db_time()}
    appended = new.on_conflict_do_update(index_elements=[sessions.c.user_id, sessions.c.session_id], set_=changed)
    return Hot(appended.returning(sessions.c.pk, sessions.c.team_id, sessions.c.run_count, sessions.c.head_run_id))


def lock_by_id(tx: Transaction, *, user_id: str, session_id: str) -> LockedSession | None:
    """Take the lock of a user's session; None: there is none."""
    own = (sessions.c.user_id == user_id, sessions.c.session_id == session_id)
    row = tx.execute(select(*_LOCKED).where(*own).with_for_update()).one_or_none()
    return None if row is None else LockedSession(*row)


def lock_of_run(tx: Transaction, run_id: str) -> LockedSession | None:
    """Take the lock of the session that *run_id* belongs to; None: there is no such run any more."""
    row = _LOCK_OF_RUN.one_or_none(tx, {"run": run_id})
    return None if row is None else LockedSession(*row)


def lock_with_state(tx: Transaction, run_id: str) -> tuple[LockedSession, dict[str, Any]] | None:
    """Take the lock of the session that *run_id* belongs to, and read its state, which can be large; None: it is gone.

    One statement, as the claim of every run sends it.
    """
    row = _LOCK_WITH_STATE.one_or_none(tx, {"run": run_id})
    return None if row is None else (LockedSession(*row[:-1]), row[-1])


def fork(tx: Transaction, pk: int, *, session_id: str) -> None:
    """Create a fork: a session of the same user and team, with a copy of the state, and without runs.

    No list shows it, and it is erased with the original. The caller holds the original's lock.
    """
    copied = ("user_id", "team_id", "name", "description", "tags", "metadata", "state")
    own: dict[str, Any] = {"session_id": literal(session_id), "forked_from": sessions.c.pk}
    own |= {"run_count": literal(0), "last_seq": literal(0), "created_at": db_time(), "updated_at": db_time()}
    row = select(*(sessions.c[name] for name in copied), *own.values()).where(sessions.c.pk == pk)
    tx.execute(insert(sessions).from_select([*copied, *own], row))


def advance(tx: Transaction, pk: int, *, messages: int, size: int = 0) -> int | None:
    """Take the lock and reserve seqs for *messages* messages; return the last seq; None: the session is gone.

    *size* is their length in the history, in characters.
    """
    row = _ADVANCE.one_or_none(tx, {"session": pk, "messages": messages, "size": size})
    return None if row is None else row[0]


def begin_run(tx: Transaction, pk: int, *, size: int, due: Due | None) -> None:
    """Reserve the seq of a run's input, and write when its team makes a summary due. Only under the lock.

    It is in the row for the process that ends the run: that can be the API, which knows no teams.
    """
    thresholds = {"due_messages": due and due.messages, "due_size": due and due.size}
    _ADVANCE.one(tx, {"session": pk, "messages": 1, "size": size, **thresholds})


def change_state(tx: Transaction, pk: int, change: StateChange) -> dict[str, Any]:
    """Apply a difference of top-level keys to the session's state, and return the state. Only under the lock.

    Raises:
        ValueTooLarge: the state would be too large; nothing is written.
    """
    before: dict[str, Any] = tx.execute(select(sessions.c.state).where(sessions.c.pk == pk)).scalar_one()
    state = change.applied_to(before)
    bounds.check_state(state, before=before, field="session_state")
    tx.execute(update(sessions).where(sessions.c.pk == pk).values(state=state))
    return state


def move_head(tx: Transaction, pk: int, *, after: int) -> MovedHead:
    """Make the first queued run after position *after* the head.

    Only under the lock: no run can be accepted then, so none is missed. A statement of its own, because Postgres reads
    a subquery as of the statement's start, before the wait for the lock.
    """
    row = _MOVE_HEAD.one(tx, {"session": pk, "after": after})
    return from_columns(MovedHead, row, due=due_of(row))


def due_of(row: Any) -> Due | None:
    """Return when the team of a row makes a summary due; None: it has no summaries."""
    return None if row.due_messages is None else Due(row.due_messages, row.due_size)


def find(tx: Transaction, *, session_id: str, principal: Principal, user_id: str | None) -> list[Any]:
    """Return (pk, user_id, team_id) of the sessions of this id that *principal* may see, at most two."""
    columns = (sessions.c.pk, sessions.c.user_id, sessions.c.team_id)
    mine = (sessions.c.session_id == session_id, visible(principal, user_id))
    return list(tx.execute(select(*columns).where(*mine).limit(2)))


def head_of_run(tx: Transaction, run_id: str) -> str | None:
    """Return the head of the session that *run_id* belongs to."""
    of_run = select(runs.c.session_pk).where(runs.c.id == run_id).scalar_subquery()
    return tx.execute(select(sessions.c.head_run_id).where(sessions.c.pk == of_run)).scalar_one_or_none()


def pk_of_run(tx: Transaction, run_id: str) -> int | None:
    """Return the pk of the session that *run_id* belongs to; None: it is gone."""
    return tx.execute(select(runs.c.session_pk).where(runs.c.id == run_id)).scalar_one_or_none()


def get(tx: Transaction, pk: int) -> SessionRow | None:
    """Return one session."""
    row: Any = tx.execute(select(*COLUMNS).where(sessions.c.pk == pk)).one_or_none()
    return None if row is None else SessionRow(*row)


def matching(dialect: str, filters: SessionFilters, *, principal: Principal) -> list[ColumnElement[bool]]:
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
        conditions.append(contains(dialect, sessions.c.tags, filters.tag))
    return conditions


def page(
    tx: Transaction, *, principal: Principal, user_id: str | None, team: str | None, before: int | None, limit: int
) -> Page[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, the newest first, those made before *before*; no forks.

    As many as fit into a page.
    """
    conditions = matching(tx.dialect.name, SessionFilters(user_id, team), principal=principal)
    if before is not None:
        conditions.append(sessions.c.pk < before)
    statement = select(sessions.c.pk, *COLUMNS).select_from(sessions).where(*conditions)
    return _page(*pages.fitting(tx, statement.order_by(sessions.c.pk.desc()), _SIZE, limit=limit))


def active(
    tx: Transaction, filters: SessionFilters, *, principal: Principal, before: tuple[datetime, int] | None, limit: int
) -> Page[tuple[int, SessionRow]]:
    """Return up to *limit* sessions with their pk, latest activity first, after the one of this time and pk.

    As many as fit into a page.

    Reads a range of an index, of one user's sessions or of all; the index has no forks. Team, name and tag are
    applied to its rows.

    Raises:
        UserForbidden: a user's key named another user.
    """
    values: dict[str, Any] = {name: value for name, value in asdict(filters).items() if value is not None}
    if (acting := principal.acting_for(filters.user_id)) is not None:
        values["user_id"] = acting
    statement = _active(tx.dialect.name, frozenset(values), principal.teams, later=before is not None, limit=limit)
    if before is not None:
        values["updated_at"], values["pk"] = before
    return _page(*statement.read(tx, values))


@lru_cache(maxsize=SHAPES)
def _active(dialect: str, names: frozenset[str], teams: frozenset[str], *, later: bool, limit: int) -> pages.Fitting:
    """Return the statement of a page, limited by filters of these names; *later*: not the first page."""
    given: dict[str, Any] = {name: bindparam(name) for name in names}
    order = (sessions.c.updated_at, sessions.c.pk)
    conditions = matching(dialect, SessionFilters(**given), principal=Principal("", teams=teams))
    if later:
        conditions.append(tuple_(*order) < tuple_(*(bindparam(column.name, type_=column.type) for column in order)))
    statement = select(sessions.c.pk, *COLUMNS).select_from(sessions).where(*conditions)
    return pages.Fitting(statement.order_by(*(column.desc() for column in order)), _SIZE, limit=limit)


def _page(rows: Sequence[Any], more: bool) -> Page[tuple[int, SessionRow]]:
    return pages.page(((row[0], SessionRow(*row[1:])) for row in rows), more=more)


def change(tx: Transaction, pk: int, values: dict[str, Any]) -> None:
    """Replace fields: name, description, tags, metadata."""
    tx.execute(update(sessions).where(sessions.c.pk == pk).values(**values, updated_at=db_time()))


def lock(tx: Transaction, pk: int) -> bool:
    """Take the session's lock; False: it is gone."""
    return tx.execute(select(sessions.c.pk).where(sessions.c.pk == pk).with_for_update()).one_or_none() is not None


COLUMNS = columns_of(SessionRow, sessions, team="team_id", message_count="last_seq")
_SIZE = pages.size_of_columns(
    sessions.c.description, sessions.c.tags, sessions.c.metadata, sessions.c.state, sessions.c.name
)
_LOCKED = columns_of(LockedSession, sessions, team="team_id")
_DUE = (sessions.c.due_messages, sessions.c.due_size)
_SUMMARY = (sessions.c.summary_version, sessions.c.covers_through_seq, sessions.c.unsummarised)

# Built once: building them took longer than executing them.
_own = sessions.c.pk == bindparam("session")
_session_of_run = select(runs.c.session_pk).where(runs.c.id == bindparam("run")).scalar_subquery()
_lock_of_run = select(*_LOCKED).where(sessions.c.pk == _session_of_run).with_for_update()
_LOCK_OF_RUN, _LOCK_WITH_STATE = Hot(_lock_of_run), Hot(_lock_of_run.add_columns(sessions.c.state))
_ADVANCE = Hot(
    update(sessions)
    .where(_own)
    .values(
        last_seq=sessions.c.last_seq + bindparam("messages"),
        unsummarised=sessions.c.unsummarised + bindparam("size"),
        updated_at=db_time(),
    )
    .returning(sessions.c.last_seq)
)
_following = (
    select(runs.c.id)
    .where(runs.c.session_pk == bindparam("session"), runs.c.position > bindparam("after"), runs.c.status == "queued")
    .order_by(runs.c.position)
    .limit(1)
    .scalar_subquery()
)
_MOVE_HEAD = Hot(
    update(sessions)
    .where(_own)
    .values(head_run_id=_following)
    .returning(sessions.c.head_run_id, sessions.c.run_count, sessions.c.last_seq, *_SUMMARY, *_DUE)
)
