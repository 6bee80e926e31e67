"""Rows of batches. The row is the lock of the batch and of its items: take it before changing them.

A batch is locked before any session. A transaction that holds a session's lock never waits for a batch.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, true, update

from worker.domain import Batch, BatchOrder, BatchStatus, PausedBy, Principal, Spent, Usage
from worker.domain.batch import order_from_json, order_to_json
from worker.store import pages
from worker.store.columns import db_time, from_columns, upsert
from worker.store.engine import Page, Transaction
from worker.store.tables import batches
from worker.store.usage import NAMES, usage_of

MINUTE_S = 60.0
PACE_S = 30.0  # the pace is an average over about this time
NOTHING = {"items": 0, "requests": 0, "tokens": 0}


@dataclass(frozen=True, slots=True)
class LockedBatch:
    """A batch whose row this transaction has locked, at the database's time `now`.

    `principal` limits which sessions the batch can use, `open` says whether more items will be added. `minute` counts
    what was started and used in the current minute: items, requests, tokens.
    """

    batch: Batch
    principal: Principal
    open: bool
    planned_key: str | None
    minute: Mapping[str, int]
    minute_at: datetime
    paced_s: float  # seconds since the pace was last computed
    now: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """An item that has ended: its outcome, usage and team. `error_code` is set only if no run has it."""

    number: int
    outcome: str
    usage: Usage = Usage()
    team: str = ""
    error_code: str | None = None
    version: int | None = None


def add(
    tx: Transaction,
    batch_id: str,
    order: BatchOrder,
    *,
    principal: Principal,
    request_key: str | None,
    request_hash: str,
) -> bool:
    """Write a batch without items; False: its request key exists already, and nothing is written."""
    zeros = dict.fromkeys(("planned", "fed", "ended", "cost", "pace", *NAMES), 0)
    row = {"id": batch_id, "status": BatchStatus.CREATED, "open": True, **zeros}
    reach = {"user_id": order.select.user_id, "teams": _teams(principal)}
    request = {"spec": order_to_json(order), "request_key": request_key, "request_hash": request_hash}
    empty = {"outcomes": {}, "minute": NOTHING, "created_at": db_time()}
    new = upsert(tx.dialect.name, batches).values(**row, **reach, **request, **empty)
    insert = new.on_conflict_do_nothing(index_elements=[batches.c.request_key]).returning(batches.c.id)
    return tx.execute(insert).one_or_none() is not None


def by_request(tx: Transaction, request_key: str) -> tuple[str, str]:
    """Return (id, request hash) of the batch with this request key."""
    own = select(batches.c.id, batches.c.request_hash).where(batches.c.request_key == request_key)
    row = tx.execute(own).one()
    return row[0], row[1]


def get(tx: Transaction, batch_id: str, *, principal: Principal) -> Batch | None:
    """Return a batch that *principal* may see."""
    row = tx.execute(select(batches).where(batches.c.id == batch_id, visible(principal))).one_or_none()
    return None if row is None else _batch(row)


def page(tx: Transaction, *, principal: Principal, before: str | None, limit: int) -> Page[Batch]:
    """Return up to *limit* batches that *principal* may see, newest first, older than the one with id *before*.

    As many as fit into a page.
    """
    older = true() if before is None else batches.c.id < before
    statement = select(batches).select_from(batches).where(visible(principal), older).order_by(batches.c.id.desc())
    rows, more = pages.fitting(tx, statement, pages.size_of_row(batches), limit=limit)
    return pages.page(map(_batch, rows), more=more)


def visible(principal: Principal) -> ColumnElement[bool]:
    """Return the condition that limits `batches` to what *principal* may see.

    A user's key sees the batches of its user. A key that is bound to teams sees those ordered for the same teams.
    """
    of_user = true() if principal.user_id is None else batches.c.user_id == principal.user_id
    return and_(of_user, batches.c.teams == _teams(principal)) if principal.teams else of_user


def unfinished(tx: Transaction) -> list[str]:
    """Return the ids of batches that are not finished, oldest first."""
    unfinished = select(batches.c.id).where(batches.c.finished_at.is_(None)).order_by(batches.c.id)
    return list(tx.execute(unfinished).scalars())


def lock(tx: Transaction, batch_id: str, *, wait: bool = True) -> LockedBatch | None:
    """Take the batch's lock; None: it is gone, or without *wait* another transaction has it."""
    own = select(batches, db_time().label("now")).where(batches.c.id == batch_id)
    row: Any = tx.execute(own.with_for_update(skip_locked=not wait)).one_or_none()
    if row is None:
        return None
    reach = Principal("", user_id=row.user_id, teams=frozenset(json.loads(row.teams)))
    over = row.minute_at is None or (row.now - row.minute_at).total_seconds() >= MINUTE_S
    minute, minute_at = (NOTHING, row.now) if over else (row.minute, row.minute_at)
    paced_s = (row.now - (row.paced_at or row.now)).total_seconds()
    return from_columns(
        LockedBatch, row, batch=_batch(row), principal=reach, minute=minute, minute_at=minute_at, paced_s=paced_s
    )


def change(tx: Transaction, batch_id: str, **values: object) -> None:
    """Write columns. The caller holds the batch's lock, and has checked the change against the row."""
    tx.execute(update(batches).where(batches.c.id == batch_id).values(**values))


def set_status(tx: Transaction, batch_id: str, status: BatchStatus, *, paused_by: PausedBy | None = None) -> None:
    """Write a status. A batch that starts to run is timed from now on."""
    times: dict[str, object] = {}
    if status is BatchStatus.RUNNING:
        times = {"paced_at": db_time(), "started_at": func.coalesce(batches.c.started_at, db_time())}
    change(tx, batch_id, status=status, paused_by=paused_by, **times)


def count_fed(tx: Transaction, held: LockedBatch, count: int) -> None:
    """Count items that were started."""
    minute = {**held.minute, "items": held.minute["items"] + count}
    change(tx, held.batch.id, fed=held.batch.fed + count, minute=minute, minute_at=held.minute_at)


def count_ended(tx: Transaction, held: LockedBatch, ended: Sequence[Ended]) -> None:
    """Count items that have ended: their outcomes, their usage and the pace."""
    batch, spent = held.batch, held.batch.spent
    used = sum((item.usage for item in ended), Usage())
    total = spent.usage + used
    cost = spent.cost + sum(batch.order.price_of(item.team).of(item.usage) for item in ended)
    requests, tokens = held.minute["requests"] + used.model_calls, held.minute["tokens"] + used.tokens
    minute = {**held.minute, "requests": requests, "tokens": tokens}
    pace = batch.pace
    if held.paced_s > 0:
        running = held.now - (batch.started_at or held.now)
        keep = math.exp(-held.paced_s / min(PACE_S, max(held.paced_s, running.total_seconds())))
        pace = keep * pace + (1 - keep) * len(ended) / held.paced_s
    change(
        tx,
        batch.id,
        ended=batch.ended + len(ended),
        outcomes=dict(Counter(batch.outcomes) + Counter(str(item.outcome) for item in ended)),
        **asdict(total),
        cost=cost,
        minute=minute,
        minute_at=held.minute_at,
        pace=pace,
        paced_at=held.now,
    )


def uncount_ended(tx: Transaction, held: LockedBatch, outcomes: Mapping[str, int]) -> None:
    """Count ended items as pending again: *outcomes* says how many had each outcome."""
    batch, number = held.batch, sum(outcomes.values())
    left = dict(Counter(batch.outcomes) - Counter(outcomes))
    change(tx, batch.id, fed=batch.fed - number, ended=batch.ended - number, outcomes=left, finished_at=None)


def _teams(principal: Principal) -> str:
    return json.dumps(sorted(principal.teams))


def _batch(row: Any) -> Batch:
    paused_by = None if row.paused_by is None else PausedBy(row.paused_by)
    order, spent = order_from_json(row.spec), Spent(usage_of(row), row.cost)
    return from_columns(Batch, row, order=order, status=BatchStatus(row.status), paused_by=paused_by, spent=spent)
