"""The order of a session's unfinished runs, for a run that is accepted behind others. Callers hold the session's lock.

Positions are the order in which runs execute and have no gaps. Only runs without a message can change theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, exists, false, or_, select, update

from worker.domain import Priority, RunOrder, Status
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.tables import batch_items, runs


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is before a new run: the head's position, whether the head or the run just before is a background one, and
    whether the head is paused.

    Interactive runs promote the background runs before them. If neither is one, none is left to promote.
    """

    head_position: int
    background: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class Promoted:
    """A head that can be claimed, and now goes to the queues of interactive runs."""

    attempt: int
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """The new position of a queued run."""

    run_id: str
    position: int
    priority: Priority


def ahead(tx: Transaction, head_run_id: str, *, position: int) -> Ahead:
    """Return what is before a new run at *position*, which is not the head."""
    row = tx.execute(_AHEAD, {"head": head_run_id, "previous": position - 1}).one()
    return Ahead(row[0], Priority.BACKGROUND in (row[1], row[2]), row[3] is not None)


def promote(tx: Transaction, session_pk: int, *, head_run_id: str, first: int, before: int) -> Promoted | None:
    """Make the unfinished background runs from position *first* to *before* interactive ones.

    If the head is one of them and can be claimed, it counts as dispatched again, and is returned.
    """
    values = {"session": session_pk, "head": head_run_id, "first": first, "before": before}
    for row in tx.execute(_PROMOTE, values).all():
        if row.id == head_run_id and row.status == Status.QUEUED and row.dispatched_at is not None:
            return Promoted(row.attempt, row.dispatched_at)
    return None


def move_waiting(tx: Transaction, session_pk: int, *, run_id: str, first: int) -> list[Moved]:
    """Move the runs that wait for their `not_before` behind *run_id*, the newest run; return what has moved, in order.

    Both keep their order among themselves. Looks at positions from *first* on.
    """
    waits = and_(runs.c.id != run_id, *_waits_for_its_time)
    movable = (runs.c.session_pk == session_pk, runs.c.position >= first, runs.c.first_seq.is_(None))
    columns = (runs.c.id, runs.c.position, runs.c.priority, case((waits, True), else_=false()))
    rows = tx.execute(select(*columns).where(*movable).order_by(runs.c.position)).all()
    ordered = sorted(rows, key=lambda row: bool(row[3]))
    moved = [
        Moved(row[0], old[1], Priority(row[2])) for old, row in zip(rows, ordered, strict=True) if old[0] != row[0]
    ]
    # Two steps: while positions are exchanged, no two runs may have the same.
    ids = {"ids": [run.run_id for run in moved]}
    if moved:
        tx.execute(_VACATE, ids)
        tx.execute(_MOVE, [{"run": run.run_id, "to": run.position} for run in moved])
    return moved


def join_input(tx: Transaction, session_pk: int, order: RunOrder, *, limit: int) -> str | None:
    """Join the order's input, by a blank line, to the session's newest queued run that was never claimed.

    Returns its id; None: there is none, it is of another kind than *order*, or the inputs together would have more than
    *limit* bytes. Of the same kind: neither waits for its time, repeats a run, has options or is of a batch, the
    priority is the same, and so are metadata and timeout unless the order leaves them out.
    """
    waiting = (runs.c.session_pk == session_pk, runs.c.status == Status.QUEUED, runs.c.attempt == 0)
    names = ("id", "input", "priority", "metadata", "timeout_s", "retry_of", "replay_of", "options")
    waits = case((and_(runs.c.not_before > db_time(), runs.c.waits_for.is_(None)), True), else_=false()).label("waits")
    of_batch = exists().where(batch_items.c.run_id == runs.c.id, batch_items.c.ended_at.is_(None)).label("of_batch")
    newest = select(*(runs.c[name] for name in names), waits, of_batch).where(*waiting).order_by(runs.c.position.desc())
    row = tx.execute(newest.limit(1).with_for_update(of=runs)).one_or_none()
    if row is None or not _same_kind(row, order):
        return None
    joined = f"{row.input}\n\n{order.input}"
    if len(joined.encode()) > limit:
        return None
    tx.execute(update(runs).where(runs.c.id == row.id).values(input=joined))
    return str(row.id)


def _same_kind(row: Any, order: RunOrder) -> bool:
    own_options = row.waits or row.retry_of or row.replay_of or row.of_batch or row.options or order.not_before
    return (
        not own_options
        and row.priority == order.priority
        and (not order.metadata or row.metadata == order.metadata)
        and (order.timeout is None or row.timeout_s == order.timeout)
    )


_head, _previous = runs.alias("head"), runs.alias("previous")
_AHEAD = (
    select(_head.c.position, _head.c.priority, _previous.c.priority, _head.c.paused_at)
    .select_from(_head)
    .outerjoin(
        _previous, and_(_previous.c.session_pk == _head.c.session_pk, _previous.c.position == bindparam("previous"))
    )
    .where(_head.c.id == bindparam("head"))
)
_due = or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time())
_is_free_head = and_(runs.c.id == bindparam("head"), runs.c.status == Status.QUEUED, _due)
_PROMOTE = (
    update(runs)
    .where(runs.c.session_pk == bindparam("session"), runs.c.status.in_((Status.QUEUED, Status.RUNNING)))
    .where(runs.c.position >= bindparam("first"), runs.c.position < bindparam("before"))
    .where(runs.c.priority == Priority.BACKGROUND)
    .values(priority=Priority.INTERACTIVE, dispatched_at=case((_is_free_head, db_time()), else_=runs.c.dispatched_at))
    .returning(runs.c.id, runs.c.status, runs.c.attempt, runs.c.dispatched_at)
)
# Its caller asked for the time: it waits neither for its model nor for a worker, and no script holds it.
_waits_for_its_time: Sequence[ColumnElement[bool]] = (
    runs.c.status == Status.QUEUED,
    runs.c.attempt == 0,
    runs.c.not_before > db_time(),
    runs.c.waits_for.is_(None),
    runs.c.lease_owner.is_(None),
)
_VACATE = update(runs).where(runs.c.id.in_(bindparam("ids", expanding=True))).values(position=-runs.c.position)
_MOVE = update(runs).where(runs.c.id == bindparam("run")).values(position=bindparam("to"))
