"""Rows of a batch's items. A writer holds the batch's lock. The status of an item is read from its run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, func, or_, select, tuple_, update

from worker.domain import Item, ItemOutcome, Result, RunError, Status, Usage
from worker.store import pages
from worker.store.batches import Ended
from worker.store.columns import byte_length, columns_of, db_time, from_columns
from worker.store.engine import Page, Transaction
from worker.store.tables import batch_items, runs, sessions, summaries, summary_jobs
from worker.store.usage import NAMES, OF_RUN, usage_of

_source = runs.alias("source")
_SIZE = pages.size_of_columns(runs.c.error_message)
_TERMINAL = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_in_flight = and_(batch_items.c.fed_at.is_not(None), batch_items.c.ended_at.is_(None))
_job_failed = and_(summary_jobs.c.session_pk.is_not(None), summary_jobs.c.send_at.is_(None))
CANCELLED = ItemOutcome.CANCELLED.value  # error code of a refresh that the batch stopped waiting for
DIVERGED = "replay_diverged"  # error code of a replay that called a tool without a recorded result


@dataclass(frozen=True, slots=True)
class PendingItem:
    """An item that was not started. `run_id` is the run of an earlier try."""

    number: int
    session_pk: int | None
    source_run_id: str | None
    request: dict[str, Any] | None
    run_id: str | None


def pending(tx: Transaction, batch_id: str, *, limit: int) -> list[PendingItem]:
    """Return the first items that were not started."""
    not_started = (batch_items.c.batch_id == batch_id, batch_items.c.fed_at.is_(None))
    first = select(*columns_of(PendingItem, batch_items)).where(*not_started).order_by(batch_items.c.number)
    return [PendingItem(*row) for row in tx.execute(first.limit(limit))]


def start(
    tx: Transaction, batch_id: str, number: int, *, run_id: str | None = None, base_version: int | None = None
) -> None:
    """Record what an item started: a run, or the refresh of a summary that had this version."""
    own = (batch_items.c.batch_id == batch_id, batch_items.c.number == number)
    values = {"run_id": run_id, "base_version": base_version, "tries": batch_items.c.tries + 1, "error_code": None}
    tx.execute(update(batch_items).where(*own).values(**values, fed_at=db_time()))


def end(tx: Transaction, batch_id: str, ended: Sequence[Ended]) -> None:
    """Record that items have ended."""
    rows = [{"at": item.number, "code": item.error_code, "made": item.version} for item in ended]
    own = (batch_items.c.batch_id == batch_id, batch_items.c.number == bindparam("at"))
    values = {"error_code": bindparam("code"), "version": bindparam("made"), "ended_at": db_time()}
    if rows:
        tx.execute(update(batch_items).where(*own).values(**values), rows)


def ended_runs(tx: Transaction, batch_id: str) -> list[Ended]:
    """Return the items in flight whose run has ended or was erased."""
    columns = (batch_items.c.number, runs.c.team_id, _run_outcome().label("outcome"))
    statement = (
        select(*columns, *OF_RUN)
        .select_from(_with_runs())
        .where(batch_items.c.batch_id == batch_id, _in_flight, batch_items.c.run_id.is_not(None))
        .where(or_(runs.c.id.is_(None), runs.c.status.in_(_TERMINAL)))
    )
    return [Ended(row.number, row.outcome, usage_of(row), row.team_id or "") for row in tx.execute(statement)]


def ended_refreshes(tx: Transaction, batch_id: str, *, given_up: bool = False) -> list[Ended]:
    """Return the items in flight whose refresh is done or has failed for good, or whose session was erased.

    With *given_up* also all others, as cancelled. Their refresh is still made if it was requested elsewhere too.
    """
    job = summary_jobs.c.session_pk
    statement = (
        select(batch_items.c.number, batch_items.c.session_pk, batch_items.c.base_version)
        .add_columns(sessions.c.summary_version, sessions.c.team_id, job.is_(None).label("done"))
        .add_columns(_job_failed.label("failed"), summary_jobs.c.error_code)
        .select_from(batch_items.outerjoin(sessions, sessions.c.pk == batch_items.c.session_pk))
        .outerjoin(summary_jobs, _job_of_item())
        .where(batch_items.c.batch_id == batch_id, _in_flight, batch_items.c.run_id.is_(None))
    )
    if not given_up:
        statement = statement.where(or_(sessions.c.pk.is_(None), job.is_(None), _job_failed))
    rows = tx.execute(statement).all()
    used = _used_by_versions(tx, [(row.session_pk, row.base_version) for row in rows])
    return [_refreshed(row, used.get(row.session_pk, Usage())) for row in rows]


def count_paused(tx: Transaction, batch_id: str) -> int:
    """Return how many items in flight wait for decisions."""
    joined = batch_items.join(runs, runs.c.id == batch_items.c.run_id)
    paused = (batch_items.c.batch_id == batch_id, _in_flight, runs.c.paused_at.is_not(None))
    return int(tx.execute(select(func.count()).select_from(joined).where(*paused)).scalar_one())


def runs_in_flight(tx: Transaction, batch_id: str) -> list[str]:
    """Return the runs of items in flight."""
    own = (batch_items.c.batch_id == batch_id, _in_flight, batch_items.c.run_id.is_not(None))
    return [str(run_id) for run_id in tx.execute(select(batch_items.c.run_id).where(*own)).scalars()]


def requeue_unsuccessful(tx: Transaction, batch_id: str) -> Counter[str]:
    """Make the items that failed, were cancelled or diverged pending again; return how many had each outcome."""
    has_error = batch_items.c.error_code.is_not(None)
    outcome = case((has_error, ItemOutcome.FAILED.value), else_=_run_outcome()).label("outcome")
    unsuccessful = or_(has_error, runs.c.status.in_((Status.FAILED, Status.CANCELLED)))
    ended = (batch_items.c.batch_id == batch_id, batch_items.c.ended_at.is_not(None), unsuccessful)
    rows = tx.execute(select(batch_items.c.number, outcome).select_from(_with_runs()).where(*ended)).all()
    reset = {"fed_at": None, "ended_at": None, "error_code": None}
    at = and_(batch_items.c.batch_id == batch_id, batch_items.c.number == bindparam("at"))
    if rows:
        tx.execute(update(batch_items).where(at).values(**reset), [{"at": row.number} for row in rows])
    return Counter(row.outcome for row in rows)


def page(
    tx: Transaction, batch_id: str, *, after: int, limit: int, status: str | None = None, texts: bool = False
) -> Page[Item]:
    """Return up to *limit* items after number *after*, as many as fit into a page, in order.

    With *texts* also the old and the new output.
    """
    status_now = _status()
    is_open = batch_items.c.ended_at.is_(None)  # once an item has ended, the job of its session is another refresh
    refresh_error = case((is_open, summary_jobs.c.error_code))
    columns = (
        *(column for column in batch_items.c if column is not batch_items.c.request),
        sessions.c.session_id,
        sessions.c.user_id.label("session_user"),
        status_now.label("status"),
        runs.c.attempt,
        func.coalesce(batch_items.c.error_code, runs.c.error_code, refresh_error).label("code"),
        runs.c.error_message,
    )
    outputs = (runs.c.output.label("new"), _source.c.output.label("old")) if texts else ()
    session_pk = func.coalesce(runs.c.session_pk, batch_items.c.session_pk)
    joined = _with_runs().outerjoin(sessions, sessions.c.pk == session_pk).outerjoin(summary_jobs, _job_of_item())
    conditions = [batch_items.c.batch_id == batch_id, batch_items.c.number > after]
    if status is not None:
        conditions.append(status_now == status)
    statement = select(*columns, *outputs, *OF_RUN).select_from(joined).where(*conditions)
    size = _SIZE + byte_length(runs.c.output) + byte_length(_source.c.output) if texts else _SIZE
    rows, more = pages.fitting(tx, statement.order_by(batch_items.c.number), size, limit=limit)
    return pages.page((_item(row, texts=texts) for row in rows), more=more)


def with_requests(tx: Transaction, user_id: str, *, after: tuple[str, int], limit: int) -> Page[dict[str, Any]]:
    """Return up to *limit* items that hold requests of a user, after the item of this batch and number."""
    order = (batch_items.c.batch_id, batch_items.c.number)
    columns = (*order, batch_items.c.custom_id, batch_items.c.request)
    own = (batch_items.c.user_id == user_id, batch_items.c.request.is_not(None), tuple_(*order) > after)
    statement = select(*columns).select_from(batch_items).where(*own).order_by(*order)
    size = pages.size_of_columns(batch_items.c.request)
    rows, more = pages.fitting(tx, statement, size, limit=limit)
    return pages.page((dict(row._mapping) for row in rows), more=more)


def erase_user(tx: Transaction, user_id: str) -> None:
    """Erase a user, with the requests, from items. An item that was not started ends as gone when its turn comes."""
    erased = {"request": None, "custom_id": None, "user_id": None}
    tx.execute(update(batch_items).where(batch_items.c.user_id == user_id).values(**erased))


def _with_runs() -> Any:
    with_run = batch_items.outerjoin(runs, runs.c.id == batch_items.c.run_id)
    return with_run.outerjoin(_source, _source.c.id == batch_items.c.source_run_id)


def _job_of_item() -> ColumnElement[bool]:
    return and_(summary_jobs.c.session_pk == batch_items.c.session_pk, batch_items.c.base_version.is_not(None))


def _refreshed(row: Any, used: Usage) -> Ended:
    if row.summary_version is None:
        return Ended(row.number, ItemOutcome.GONE)
    version = row.summary_version if row.summary_version > row.base_version else None
    if version is None and row.failed:
        return Ended(row.number, ItemOutcome.FAILED, used, row.team_id, error_code=row.error_code)
    if version is None and not row.done:
        return Ended(row.number, ItemOutcome.CANCELLED, error_code=CANCELLED)
    return Ended(row.number, ItemOutcome.COMPLETED, used, row.team_id, version=version)


def _used_by_versions(tx: Transaction, items: list[tuple[int, int]]) -> dict[int, Usage]:
    """Return the usage of summary versions newer than the given (session pk, version), by session."""
    if not items:
        return {}
    newer = or_(*(and_(summaries.c.session_pk == pk, summaries.c.version > version) for pk, version in items))
    sums = [func.sum(summaries.c[name]).label(name) for name in NAMES]
    rows = tx.execute(select(summaries.c.session_pk, *sums).where(newer).group_by(summaries.c.session_pk))
    return {row.session_pk: Usage(*map(int, row[1:])) for row in rows}


def _run_outcome() -> ColumnElement[str]:
    """Return the status of an item's run; for a completed replay whether its output is the same."""
    compared = case((runs.c.output == _source.c.output, ItemOutcome.SAME.value), else_=ItemOutcome.CHANGED.value)
    return case(
        (runs.c.id.is_(None), ItemOutcome.GONE.value),
        (runs.c.error_code == DIVERGED, ItemOutcome.DIVERGED.value),
        (runs.c.paused_at.is_not(None), Status.PAUSED.value),
        (and_(runs.c.replay_of.is_not(None), runs.c.status == Status.COMPLETED), compared),
        else_=runs.c.status,
    )


def _status() -> ColumnElement[str]:
    """Return the status of an item, from its run or from its session's refresh."""
    item, done = batch_items.c, batch_items.c.ended_at.is_not(None)
    return case(
        (item.fed_at.is_(None), "waiting"),
        (item.error_code == CANCELLED, CANCELLED),
        (item.error_code.is_not(None), ItemOutcome.FAILED.value),
        (item.run_id.is_not(None), _run_outcome()),
        (sessions.c.pk.is_(None), ItemOutcome.GONE.value),
        (done, ItemOutcome.COMPLETED.value),
        (summary_jobs.c.lease_owner.is_not(None), "running"),
        else_="queued",
    )


def _item(row: Any, *, texts: bool) -> Item:
    code = row.code if row.code != CANCELLED else None
    message = row.error_message or f"It ended with {code!r}; the handbook's list of errors says more."
    error = None if code is None else RunError(code, message)
    user_id = row.session_user if row.session_user is not None else row.user_id
    item = from_columns(Item, row, user_id=user_id, attempts=row.attempt, error=error, usage=usage_of(row))
    return Result(**vars(item), old_output=row.old, new_output=row.new) if texts else item
