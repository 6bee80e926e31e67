"""Accept batches and their explicit items; estimate a batch before it is accepted."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.batches.plan import close
from worker.domain import (
    CHARS_PER_TOKEN,
    Batch,
    BatchOrder,
    BatchRun,
    Estimate,
    Kind,
    Principal,
    Usage,
    check_id,
    new_id,
    validate_order,
)
from worker.domain.batch import CANARY, MAX_WINDOW, order_to_json
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound, IdempotencyConflict
from worker.runs.enqueue import check_workers
from worker.settings import Settings
from worker.store import Database, LockedBatch, Transaction, batch_plan, batches

SAMPLE_SIZE = 5


@dataclass(frozen=True, slots=True)
class ExplicitItems:
    """Items that a caller lists: ids of sessions or runs, or runs to accept. With `more`, `add` adds further items."""

    ids: Sequence[str] = ()
    requests: Sequence[BatchRun] = ()
    more: bool = False


def create(
    db: Database,
    order: BatchOrder,
    *,
    principal: Principal,
    settings: Settings,
    items: ExplicitItems | None = None,
    idempotency_key: str | None = None,
) -> Batch:
    """Accept a batch. Its items are *items*, or without them those that its filter finds from now on.

    The same key with the same order returns the batch of the first call.

    Raises:
        BatchInvalid, UserForbidden, TeamForbidden, IdempotencyConflict, and what an order of a run can raise
    """
    order = replace(_bound_to(principal, order), explicit_items=items is not None)
    _validate(order)
    request_key, order_hash = None, request_hash(order, items)
    if idempotency_key is not None:
        check_id(idempotency_key, field="Idempotency-Key")
        request_key = _hash([principal.user_id, idempotency_key])
    batch_id = new_id("batch")
    with db.write() as tx:
        added = batches.add(tx, batch_id, order, principal=principal, request_key=request_key, request_hash=order_hash)
        if not added and request_key is not None:
            earlier, earlier_hash = batches.by_request(tx, request_key)
            if earlier_hash != order_hash:
                raise IdempotencyConflict(key=idempotency_key)
            return _get(tx, earlier, principal)
        locked = batches.lock(tx, batch_id)
        if items is not None and locked is not None:
            _write_items(tx, locked, items, settings=settings)
        return _get(tx, batch_id, principal)


def add(
    db: Database,
    batch_id: str,
    items: ExplicitItems,
    *,
    principal: Principal,
    settings: Settings,
    first: int | None = None,
) -> Batch:
    """Add items to a batch that was accepted with `more`.

    *first* is the number of their first. Items that were added under these numbers before are not added again.

    Raises:
        BatchNotFound, BatchConflict, BatchInvalid, and what an order of a run can raise
    """
    with db.write() as tx:
        batch = _get(tx, batch_id, principal)
        locked = batches.lock(tx, batch_id)
        last = None if first is None else first + len(items.ids) + len(items.requests) - 1
        is_explicit = batch.order.explicit_items
        if locked is not None and is_explicit and first and last and first <= last <= locked.batch.planned:
            return locked.batch
        if locked is None or not locked.open or not is_explicit or batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=batch.status, action="given more items")
        if first is not None and first != locked.batch.planned + 1:
            action = f"given item {first} now: it has {locked.batch.planned}"
            raise BatchConflict(batch_id=batch_id, status=batch.status, action=action)
        _write_items(tx, locked, items, settings=settings)
        return _get(tx, batch_id, principal)


def estimate(db: Database, order: BatchOrder, *, principal: Principal) -> Estimate:
    """Estimate a batch with a filter; nothing is written.

    Raises:
        BatchInvalid, UserForbidden, TeamForbidden
    """
    order = _bound_to(principal, order)
    _validate(order)
    with db.read() as tx:
        selected = batch_plan.estimate(tx, order, principal=principal, sample=SAMPLE_SIZE)
    input_tokens = selected.input_tokens
    if batch_plan.selects_sessions(order.kind):
        input_tokens //= CHARS_PER_TOKEN
    price = order.price_of(order.select.team or "*") if order.prices else None
    cost = None if price is None else price.of(Usage(0, input_tokens, 0, selected.output_tokens))
    return Estimate(selected.count, selected.sample, input_tokens, selected.output_tokens, cost)


def _bound_to(principal: Principal, order: BatchOrder) -> BatchOrder:
    """Return the order for the user that *principal* acts for. Raises UserForbidden, TeamForbidden."""
    if order.select.team is not None:
        principal.check_team(order.select.team)
    return replace(order, select=replace(order.select, user_id=principal.acting_for(order.select.user_id)))


def _validate(order: BatchOrder) -> None:
    """Raise BatchInvalid for options that contradict each other or the kind."""
    kind, status = order.kind, order.select.status
    problems = {
        "window": not 1 <= order.window <= MAX_WINDOW and f"is {order.window}; expected 1 to {MAX_WINDOW:,}",
        "canary": order.canary is not None
        and not CANARY.fullmatch(order.canary)
        and f"is {order.canary!r}; expected a number of items, or a share such as '1%'",
        "budget": order.budget.cost is not None
        and not order.prices
        and "has a cost, but no prices are set: set TEAM_SESSIONS_PRICES",
        "status": (
            (batch_plan.selects_sessions(kind) and status and "filters runs, but the items of this kind are sessions")
            or (
                kind is Kind.RETRY_FAILED
                and status == "completed"
                and "is 'completed', but only runs that failed or were cancelled can be retried"
            )
        ),
        "rebuild": order.rebuild and kind is not Kind.REFRESH_SUMMARIES and "is only for 'refresh_summaries'",
        "execute_tools": order.execute_tools and kind is not Kind.REPLAY_RUNS and "is only for 'replay_runs'",
        "requests": kind is Kind.ENQUEUE_RUNS
        and not order.explicit_items
        and "is missing: 'enqueue_runs' needs the runs to enqueue",
    }
    for field, problem in problems.items():
        if problem:
            raise BatchInvalid(field=repr(field), problem=problem)


def _write_items(tx: Transaction, locked: LockedBatch, items: ExplicitItems, *, settings: Settings) -> None:
    """Write explicit items after those that the batch has. Its own principal limits them, not the caller's."""
    batch, principal = locked.batch, locked.principal
    first, order = batch.planned + 1, batch.order
    if (items.requests and order.kind is not Kind.ENQUEUE_RUNS) or (items.ids and order.kind is Kind.ENQUEUE_RUNS):
        raise BatchInvalid(field="The items", problem=f"do not fit the kind {order.kind.value!r}")
    if items.ids:
        _check_unique(items.ids, "The list of ids")
        count = batch_plan.write_ids(tx, batch.id, order, items.ids, principal=principal, first=first)
        if count != len(items.ids):
            problem = (
                f"has {len(items.ids):,} ids, but only {count:,} of them exist, fit the kind and are not in the batch"
            )
            raise BatchInvalid(field="The list of ids", problem=problem)
    else:
        custom_ids = [run.custom_id for run in items.requests if run.custom_id is not None]
        _check_unique(custom_ids, "'custom_id'")
        if existing := batch_plan.existing_custom_ids(tx, batch.id, custom_ids):
            raise BatchInvalid(field="'custom_id'", problem=f"{existing[0]!r} is already in the batch")
        rows = []
        for run in items.requests:
            validate_order(run, max_input_bytes=settings.max_input_bytes)
            principal.check_team(run.team)
            check_workers(tx, run)
            if principal.user_id not in (None, run.user_id or ""):
                raise BatchInvalid(field="'user_id'", problem="of a request is not the user of the batch")
            rows.append((run.custom_id, run.user_id or "", run.to_json()))
        batch_plan.write_requests(tx, batch.id, rows, first=first)
        count = len(rows)
    if items.more:
        batches.change(tx, batch.id, planned=batch.planned + count)
    else:
        close(tx, batch, planned=batch.planned + count)


def _check_unique(ids: Sequence[str], field: str) -> None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            raise BatchInvalid(field=field, problem=f"has {id!r} twice")
        seen.add(id)


def request_hash(order: BatchOrder, items: ExplicitItems | None) -> str:
    """Return a hash that is equal for equal orders, in every release: it is stored with the request's key."""
    explicit = None
    if items is not None:
        requests = [[run.custom_id, run.to_json()] for run in items.requests]
        explicit = {"ids": list(items.ids), "requests": requests, "more": items.more}
    return _hash([order_to_json(order), explicit])


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _get(tx: Transaction, batch_id: str, principal: Principal) -> Batch:
    batch = batches.get(tx, batch_id, principal=principal)
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch
