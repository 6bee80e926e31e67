"""Rows of messages: written once, never changed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from worker.domain import Draft, Excerpt, Extra, Message, Role, ToolCall, Viewpoint, mend, size_of
from worker.store import pages
from worker.store.columns import columns_of, db_time, from_columns
from worker.store.engine import Page, Transaction
from worker.store.hot import Hot
from worker.store.summaries import Current
from worker.store.tables import messages, runs, sessions

READ = 1_000  # rows that are read for one context, at most
SIZE = func.length(messages.c.content) + func.coalesce(func.length(messages.c.tool_calls.cast(Text)), 0)  # of a message
_WHOLE = columns_of(Message, messages)  # read for a context
_COLUMNS = tuple(
    column for column in _WHOLE if column is not messages.c.extra
)  # read for all else: an extra can be large
_BYTES = pages.size_of_columns(messages.c.content, messages.c.tool_calls)
_of_leader = messages.c.delegation.is_(None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is read for one context, in characters: of all messages, of one, and of one result of a tool.

    A result counts with at most `least_of_result`: it can be shortened to that.
    """

    size: int
    text: int
    result: int
    least_of_result: int


@dataclass(frozen=True, slots=True)
class Part:
    """A message that a summary covers next. `size` is its full length in characters, even if only a part was read.

    Nothing is read of a message of a rolled-back run: `excluded`.
    """

    message: Message
    position: int
    excluded: bool
    size: int


def append(tx: Transaction, drafts: Sequence[Draft], *, session_pk: int, run_id: str, last_seq: int) -> list[Message]:
    """Write *drafts* so that the last has *last_seq*. The caller holds the session's lock and reserved the seqs."""
    if not drafts:
        return []
    first = last_seq - len(drafts) + 1
    rows = [_row(draft, session_pk=session_pk, run_id=run_id, seq=first + n) for n, draft in enumerate(drafts)]
    found = _APPEND_ONE.rows(tx, rows[0]) if len(rows) == 1 else tx.execute(_APPEND, rows)
    written = [_message(row) for row in found]
    return [
        message if draft.extra is None else replace(message, extra=draft.extra, tool_calls=draft.tool_calls)
        for message, draft in zip(written, drafts, strict=True)
    ]


def append_inputs(tx: Transaction, *, session_pk: int, after: int, before: int, last_seq: int) -> int:
    """Write the inputs of the runs between two positions, which ended while they were queued; return their length.

    The user's text is never lost. Two statements for any number of runs. The caller holds the session's lock and
    reserves the seqs.
    """
    between = (runs.c.session_pk == session_pk, runs.c.position > after, runs.c.position < before)
    seq = literal(last_seq - after, Integer) + runs.c.position  # positions have no gaps
    user = select(sessions.c.user_id).where(sessions.c.pk == session_pk).scalar_subquery()
    inputs = select(runs.c.session_pk, seq, runs.c.id, literal(Role.USER.value), user, runs.c.input, db_time())
    columns = ["session_pk", "seq", "run_id", "role", "author", "content", "created_at"]
    tx.execute(insert(messages).from_select(columns, inputs.where(*between)))
    numbered = update(runs).where(*between).values(first_seq=seq, last_seq=seq).returning(func.length(runs.c.input))
    return sum(tx.execute(numbered).scalars())


def of_run(tx: Transaction, *, session_pk: int, first_seq: int, last_seq: int) -> list[Message]:
    """Return the messages of one run, in order: they are contiguous. Reads the primary key only."""
    own = (messages.c.session_pk == session_pk, messages.c.seq.between(first_seq, last_seq))
    return [_message(row) for row in tx.execute(select(*_WHOLE).where(*own).order_by(messages.c.seq))]


def of_run_by_id(tx: Transaction, run_id: str) -> list[Message]:
    """Return the messages of one run, in order, by its id."""
    own = (runs.c.session_pk == messages.c.session_pk) & messages.c.seq.between(runs.c.first_seq, runs.c.last_seq)
    statement = select(*_COLUMNS).join(runs, own)
    return [_message(row) for row in tx.execute(statement.where(runs.c.id == run_id).order_by(messages.c.seq))]


def without_contents(tx: Transaction, run_id: str) -> list[Message]:
    """Return the messages of one run, in order, each with an empty content."""
    own = (runs.c.session_pk == messages.c.session_pk) & messages.c.seq.between(runs.c.first_seq, runs.c.last_seq)
    columns = (literal("").label(column.name) if column.name == "content" else column for column in _COLUMNS)
    statement = select(*columns).join(runs, own)
    return [_message(row) for row in tx.execute(statement.where(runs.c.id == run_id).order_by(messages.c.seq))]


def first_of_last(tx: Transaction, *, session_pk: int, summary: Current, run_count: int) -> int:
    """Return the first seq of the last *run_count* runs that a summary covers; the seq after it if there are none."""
    values = {"session_pk": session_pk, "covered": summary.covers_position, "count": run_count}
    begin = tx.execute(_FIRST_OF_LAST_RUNS, values).scalar_one()
    return min(begin or summary.covers_through_seq + 1, summary.covers_through_seq + 1)


def newest_that_fit(
    tx: Transaction, *, session_pk: int, since_seq: int, before_seq: int, bounds: Bounds
) -> tuple[list[Excerpt], bool]:
    """Return the newest messages of the leader's history in [since_seq, before_seq) that fit.

    Oldest first; and whether older ones were left out. At most READ rows are read.
    """
    values = {"session_pk": session_pk, "since_seq": since_seq, "before_seq": before_seq}
    return _fitting(tx, _NEWEST_THAT_FIT, values, bounds)


def newest_of_last(
    tx: Transaction, *, session_pk: int, seen_from: Viewpoint, run_count: int, count: int | None, bounds: Bounds
) -> tuple[list[Excerpt], bool]:
    """Return of the last *run_count* runs, or of the last *count* messages, the newest messages that fit.

    Runs that were rolled back do not count. Otherwise like `newest_that_fit`.
    """
    statement, number = (_OF_LAST_RUNS, run_count) if count is None else (_OF_LAST_MESSAGES, count)
    values = {"session_pk": session_pk, "position": seen_from.position, "before_seq": seen_from.first_seq}
    return _fitting(tx, statement, {**values, "count": number}, bounds)


def _fitting(tx: Transaction, statement: Hot, values: dict[str, int], bounds: Bounds) -> tuple[list[Excerpt], bool]:
    # One row more than fits shows that something is left out.
    limits = {name: getattr(bounds, name) for name in Bounds.__slots__}
    rows = statement.rows(tx, values | limits)
    fitting = [row for row in rows if row.total <= bounds.size]
    rows_read = rows[0].rows_read if rows else 0
    return [Excerpt(_message(row), row.length) for row in fitting], not (len(fitting) == rows_read < READ)


def _first_of_last_runs() -> Select[Any]:
    of_session = (runs.c.session_pk == bindparam("session_pk"), runs.c.excluded.is_(False))
    last = select(runs.c.first_seq.label("seq")).where(*of_session, runs.c.first_seq.is_not(None))
    last = last.where(runs.c.position <= bindparam("covered")).order_by(runs.c.position.desc())
    return select(func.min(last.limit(bindparam("count", type_=Integer)).subquery().c.seq))


def _least(column: ColumnElement[int], limit: ColumnElement[int]) -> ColumnElement[int]:
    return case((column > limit, limit), else_=column)


def _newest_that_fit(since_seq: ColumnElement[int]) -> Select[Any]:
    # Aliases: a name with a schema is translated in each execution.
    own, run = messages.alias("own"), runs.alias("run")
    is_result = own.c.role == Role.TOOL
    of_result, of_text, least = (bindparam(name, type_=Integer) for name in ("result", "text", "least_of_result"))
    length = func.length(own.c.content)
    counted = _least(length, case((is_result, least), else_=of_text))
    content = func.substr(own.c.content, 1, case((is_result, of_result), else_=of_text)).label("content")
    others = (own.c[column.name] for column in _WHOLE if column is not messages.c.content)
    calls_size = func.coalesce(func.length(own.c.tool_calls.cast(Text)), 0)
    newest = (
        select(*others, content, length.label("length"), (counted + calls_size).label("size"))
        .join(run, run.c.id == own.c.run_id)
        .where(
            own.c.session_pk == bindparam("session_pk"),
            own.c.seq >= since_seq,
            own.c.seq < bindparam("before_seq"),
            own.c.delegation.is_(None),
            run.c.excluded.is_(False),
        )
        .order_by(own.c.seq.desc())
        .limit(READ)
        .subquery()
    )
    total = func.sum(newest.c.size).over(order_by=newest.c.seq.desc())
    summed = select(newest, total.label("total"), func.count().over().label("rows_read")).subquery()
    fits = summed.c.total - summed.c.size < bindparam("size")
    return select(summed).where(fits).order_by(summed.c.seq)


def _of_last_runs() -> Select[Any]:
    run = runs.alias("last_run")
    last = select(run.c.first_seq.label("seq")).where(run.c.session_pk == bindparam("session_pk"))
    last = last.where(run.c.excluded.is_(False), run.c.first_seq.is_not(None))
    last = last.where(run.c.position < bindparam("position")).order_by(run.c.position.desc())
    begin = select(func.min(last.limit(bindparam("count", type_=Integer)).subquery().c.seq))
    return _newest_that_fit(begin.scalar_subquery())


def _of_last_messages() -> Select[Any]:
    own, run = messages.alias("last"), runs.alias("last_run")
    last = select(own.c.seq).join(run, run.c.id == own.c.run_id)
    last = last.where(own.c.session_pk == bindparam("session_pk"), own.c.delegation.is_(None))
    last = last.where(run.c.excluded.is_(False), own.c.seq < bindparam("before_seq")).order_by(own.c.seq.desc())
    begin = select(func.min(last.limit(bindparam("count", type_=Integer)).subquery().c.seq))
    return _newest_that_fit(begin.scalar_subquery())


# Built once: each run sends some of them, and building them took longer than executing them.
_appended = insert(messages).values(created_at=db_time())
_APPEND = _appended.returning(*_COLUMNS, sort_by_parameter_order=True)
_APPEND_ONE = Hot(_appended.returning(*_COLUMNS))
_NEWEST_THAT_FIT = Hot(_newest_that_fit(bindparam("since_seq", type_=Integer)))
_OF_LAST_RUNS, _OF_LAST_MESSAGES = Hot(_of_last_runs()), Hot(_of_last_messages())
_FIRST_OF_LAST_RUNS = _first_of_last_runs()


def to_condense(
    tx: Transaction, *, session_pk: int, after_seq: int, through_seq: int, limit: int, cut: int
) -> list[Part]:
    """Return the first *limit* messages of the leader's history in (after_seq, through_seq], oldest first.

    At most *cut* characters of each are read.
    """
    content = case((runs.c.excluded, ""), else_=func.substr(messages.c.content, 1, cut)).label("content")
    length = func.length(messages.c.content).label("length")
    others = (column for column in _COLUMNS if column is not messages.c.content)
    columns = (*others, content, length, runs.c.position, runs.c.excluded)
    own = (messages.c.session_pk == session_pk, messages.c.seq > after_seq, messages.c.seq <= through_seq, _of_leader)
    first = select(*columns).join(runs, runs.c.id == messages.c.run_id).where(*own).order_by(messages.c.seq)
    return [_part(row) for row in tx.execute(first.limit(limit))]


def chat(
    tx: Transaction, *, session_pk: int, before_seq: int, since_position: int, limit: int, cut: int
) -> list[Excerpt]:
    """Return messages of users and leaders, newest first, without replies that only call tools.

    Those before *before_seq*, of runs from *since_position* on; at most *cut* characters of each are read.
    """
    has_text = messages.c.role.in_([Role.USER, Role.ASSISTANT]) & (messages.c.content != "")
    recent = (_of_leader, has_text, runs.c.position >= since_position)
    return _newest(tx, *recent, session_pk=session_pk, before_seq=before_seq, limit=limit, cut=cut)


def tool_results(
    tx: Transaction, *, session_pk: int, before_seq: int, limit: int, cut: int
) -> list[tuple[Message, Excerpt]]:
    """Return results of tools, newest first, each after the reply that asked for it: members' tools too.

    At most *cut* characters of each are read.
    """
    of_tool = messages.c.role == Role.TOOL
    results = _newest(tx, of_tool, session_pk=session_pk, before_seq=before_seq, limit=limit, cut=cut)
    if not results:
        return []
    begin = select(runs.c.first_seq).where(runs.c.id == results[-1].message.run_id).scalar_subquery()
    own = (messages.c.session_pk == session_pk, messages.c.seq.between(begin, results[0].message.seq))
    calls = select(*_COLUMNS).where(*own, messages.c.tool_calls.is_not(None)).order_by(messages.c.seq)
    replies = [_message(row) for row in tx.execute(calls)]
    return [(reply, result) for result in results if (reply := _caller_of(replies, result.message)) is not None]


def excerpt(tx: Transaction, *, session_pk: int, seq: int, begin: int, limit: int) -> Excerpt | None:
    """Return at most *limit* characters of a message from *begin* on; None: there is none, or it was rolled back."""
    own = (messages.c.session_pk == session_pk, messages.c.seq == seq, runs.c.excluded.is_(False))
    statement = select(*_cut(begin + 1, limit)).join(runs, runs.c.id == messages.c.run_id).where(*own)
    row = tx.execute(statement).one_or_none()
    return None if row is None else Excerpt(_message(row), row.length)


def _cut(first: int, count: int) -> tuple[ColumnElement[Any], ...]:
    """Return the columns of a message, with *count* characters of its text and the length of the whole text."""
    content = func.substr(messages.c.content, first, count).label("content")
    others = (column for column in _COLUMNS if column is not messages.c.content)
    return (*others, content, func.length(messages.c.content).label("length"))


def _caller_of(replies: list[Message], result: Message) -> Message | None:
    before = [r for r in replies if r.delegation == result.delegation and r.seq < result.seq]
    return next((r for r in reversed(before) if any(c.id == result.tool_call_id for c in r.tool_calls)), None)


def page(tx: Transaction, *, session_pk: int, after_seq: int, limit: int, role: Role | None = None) -> Page[Message]:
    """Return up to *limit* messages after *after_seq*, as many as fit into a page, oldest first.

    A range of the primary key.
    """
    of_role = [] if role is None else [messages.c.role == role]
    own = (messages.c.session_pk == session_pk, messages.c.seq > after_seq, *of_role)
    statement = select(*_COLUMNS).select_from(messages).where(*own).order_by(messages.c.seq)
    rows, more = pages.fitting(tx, statement, _BYTES, limit=limit)
    return pages.page(map(_message, rows), more=more)


def _newest(
    tx: Transaction, *conditions: ColumnElement[bool], session_pk: int, before_seq: int, limit: int, cut: int
) -> list[Excerpt]:
    """Return up to *limit* messages before *before_seq*, newest first, without those of rolled-back runs."""
    own = (messages.c.session_pk == session_pk, messages.c.seq < before_seq, runs.c.excluded.is_(False))
    newest = select(*_cut(1, cut)).join(runs, runs.c.id == messages.c.run_id).where(*own, *conditions)
    rows = tx.execute(newest.order_by(messages.c.seq.desc()).limit(limit))
    return [Excerpt(_message(row), row.length) for row in rows]


def _row(draft: Draft, *, session_pk: int, run_id: str, seq: int) -> dict[str, Any]:
    calls = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in draft.tool_calls]
    row = {name: getattr(draft, name) for name in ("role", "author", "delegation", "tool_call_id")}
    row |= {"session_pk": session_pk, "seq": seq, "run_id": run_id, "content": mend(draft.content)}
    usage = asdict(draft.usage)
    row |= {"tool_calls": calls or None, "usage": usage if usage.pop("model_calls") else None}
    extra = draft.extra and {**asdict(draft.extra), "calls": [call.extra for call in draft.tool_calls]}
    return {**row, "extra": extra}


def _part(row: Any) -> Part:
    message = _message(row)
    unread = row.length - len(message.content)
    return Part(message, row.position, row.excluded, size_of([message]) + unread)


def _message(row: Any) -> Message:
    calls = tuple(_calls(row.tool_calls)) if row.tool_calls else ()
    extra = None
    if stored := getattr(row, "extra", None):
        extra = Extra(**{name: stored[name] for name in ("model", "address", "fields", "cut_off")})
        if len(stored["calls"]) == len(calls):
            calls = tuple(replace(call, extra=own) for call, own in zip(calls, stored["calls"], strict=True))
    return from_columns(Message, row, role=Role(row.role), tool_calls=calls, extra=extra)


def _calls(stored: Any) -> Iterator[ToolCall]:
    """Yield the calls of a row, without what another program wrote there and is none."""
    for call in stored if isinstance(stored, list) else ():
        values = [call.get(name) for name in ("id", "name", "arguments")] if isinstance(call, dict) else [None]
        if all(isinstance(value, str) for value in values):
            yield ToolCall(*values)
