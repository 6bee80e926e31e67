"""Take the order of a batch, and what its caller names of its items; say beforehand what it would be."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from worker.batches.plan import close
from worker.domain.batch import Batch, BatchOrder, Kind, order_to_json
from worker.domain.identity import new_id
from worker.domain.principal import Principal
from worker.domain.run_order import RunOrder, validate_order
from worker.domain.summary import CHARS_PER_TOKEN
from worker.domain.text import check_id
from worker.domain.usage import Usage
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound, IdempotencyConflict
from worker.settings import Settings
from worker.store import batch_plan, batches
from worker.store.batches import LockedBatch
from worker.store.engine import Database, Transaction

MAX_WINDOW = 1_000
SAMPLE_SIZE = 5
CANARY = re.compile(r"[1-9][0-9]{0,8}|(100|[1-9]?[0-9](\.[0-9]{1,4})?)%")


@dataclass(frozen=True, slots=True)
class Request:
    """One run of a batch of kind `enqueue_runs`. `custom_id` is the caller's name for it, once in its batch."""

    custom_id: str | None
    order: RunOrder


@dataclass(frozen=True, slots=True)
class ExplicitItems:
    """Items that a caller names: ids of sessions or runs, or runs to be enqueued. `more` will be given later."""

    ids: Sequence[str] = ()
    requests: Sequence[Request] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch would be: how many items, the ids of the first, about how many tokens, and what these cost.

    Of runs it is what they have used before; of summaries what a refresh reads of each history. `cost` is None where
    no prices are known.
    """

    count: int
    sample: list[str]
    input_tokens: int
    output_tokens: int
    cost: float | None


def create(
    db: Database,
    order: BatchOrder,
    *,
    principal: Principal,
    settings: Settings,
    items: ExplicitItems | None = None,
    idempotency_key: str | None = None,
) -> Batch:
    """Accept a batch. Its items are found by its filter from now on, or are those that are *items*.

    The same key with the same order returns the batch that it made the first time.

    Raises:
        BatchInvalid, UserForbidden, TeamForbidden, IdempotencyConflict, and what an order of a run can raise
    """
    order = replace(_checked(order, principal), given=items is not None)
    _check_sense(order)
    request_key, said = None, hashlib.sha256(_canonical([order_to_json(order), _said(items)])).hexdigest()
    if idempotency_key is not None:
        check_id(idempotency_key, field="Idempotency-Key")
        request_key = hashlib.sha256(_canonical([principal.user_id, idempotency_key])).hexdigest()
    batch_id = new_id("batch")
    with db.write() as tx:
        made = batches.add(tx, batch_id, order, principal=principal, request_key=request_key, request_hash=said)
        if not made and request_key is not None:
            earlier, said_then = batches.by_request(tx, request_key)
            if said_then != said:
                raise IdempotencyConflict(key=idempotency_key, run_id=earlier)
            return _found(tx, earlier, principal)
        held = batches.lock(tx, batch_id)
        if items is not None and held is not None:
            _write(tx, held, items, settings=settings)
        return _found(tx, batch_id, principal)


def add(
    db: Database,
    batch_id: str,
    items: ExplicitItems,
    *,
    principal: Principal,
    settings: Settings,
    first: int | None = None,
) -> Batch:
    """Add items to a batch whose caller has said that there are more.

    *first* is the number of the first of them: what was added under these numbers before is not added again.

    Raises:
        BatchNotFound, BatchConflict, BatchInvalid, and what an order of a run can raise
    """
    with db.write() as tx:
        batch = _found(tx, batch_id, principal)
        held = batches.lock(tx, batch_id)
        last = None if first is None else first + len(items.ids) + len(items.requests) - 1
        if held is not None and batch.order.given and first and last and first <= last <= held.batch.planned:
            return held.batch
        if held is None or not held.open or not batch.order.given or batch.status.terminal:
            raise BatchConflict(batch_id=batch_id, status=batch.status, action="given more items")
        if first is not None and first != held.batch.planned + 1:
            action = f"given item {first} now: it has {held.batch.planned}"
            raise BatchConflict(batch_id=batch_id, status=batch.status, action=action)
        _write(tx, held, items, settings=settings)
        return _found(tx, batch_id, principal)


def estimate(db: Database, order: BatchOrder, *, principal: Principal) -> Estimate:
    """Say what a batch with a filter would be; nothing is written.

    Raises:
        BatchInvalid, UserForbidden, TeamForbidden
    """
    order = _checked(order, principal)
    _check_sense(order)
    with db.read() as tx:
        found = batch_plan.look(tx, order, principal=principal, sample=SAMPLE_SIZE)
    read = found.input_tokens
    if batch_plan.of_sessions(order.kind):
        read //= CHARS_PER_TOKEN
    price = order.price_of(order.select.team or "*") if order.prices else None
    cost = None if price is None else price.of(Usage(0, read, 0, found.output_tokens))
    return Estimate(found.count, found.sample, read, found.output_tokens, cost)


def _checked(order: BatchOrder, principal: Principal) -> BatchOrder:
    """Return the order with its user, if *principal* may give it."""
    if order.select.team is not None:
        principal.check_team(order.select.team)
    return replace(order, select=replace(order.select, user_id=principal.acting_for(order.select.user_id)))


def _check_sense(order: BatchOrder) -> None:
    """Raise BatchInvalid for an order that cannot be meant so."""
    limits, retries = order.limits, order.kind is Kind.RETRY_FAILED
    problems = {
        "window": not 1 <= order.window <= MAX_WINDOW and f"is {order.window}; expected 1 to {MAX_WINDOW}",
        "canary": order.canary is not None
        and not CANARY.fullmatch(order.canary)
        and f"is {order.canary!r}; expected a number of items, or a share such as '1%'",
        "budget": limits.budget_cost is not None and not order.prices and "is in money, and no prices are known",
        "status": (
            (batch_plan.of_sessions(order.kind) and order.select.status and "is of runs, not of sessions")
            or (retries and order.select.status == "completed" and "is 'completed'; only what failed is tried again")
        ),
        "rebuild": order.rebuild and order.kind is not Kind.REFRESH_SUMMARIES and "is for 'refresh_summaries' only",
        "execute_tools": order.execute_tools and order.kind is not Kind.REPLAY_RUNS and "is for 'replay_runs' only",
        "requests": order.kind is Kind.ENQUEUE_RUNS and not order.given and "are missing: this kind has no filter",
    }
    for field, problem in problems.items():
        if problem:
            raise BatchInvalid(field=field, problem=problem)


def _write(tx: Transaction, held: LockedBatch, items: ExplicitItems, *, settings: Settings) -> None:
    """Write given items down, behind those that are there: of what the batch was ordered for, whoever gives them."""
    batch, principal = held.batch, held.principal
    first, order = batch.planned + 1, batch.order
    if (items.requests and order.kind is not Kind.ENQUEUE_RUNS) or (items.ids and order.kind is Kind.ENQUEUE_RUNS):
        raise BatchInvalid(field="items", problem=f"do not fit the kind {order.kind.value!r}")
    if items.ids:
        _check_once(items.ids, "ids")
        count = batch_plan.write_ids(tx, batch.id, order, items.ids, principal=principal, first=first)
        if count != len(items.ids):
            problem = f"name {len(items.ids)} items; {count} are there, of a kind that fits, and not given before"
            raise BatchInvalid(field="ids", problem=problem)
    else:
        custom_ids = [one.custom_id for one in items.requests if one.custom_id is not None]
        _check_once(custom_ids, "custom_ids")
        if known := batch_plan.known_custom_ids(tx, batch.id, custom_ids):
            raise BatchInvalid(field="custom_ids", problem=f"were given before, as {known[0]!r}")
        rows = []
        for one in items.requests:
            validate_order(one.order, max_input_bytes=settings.max_input_bytes)
            principal.check_team(one.order.team)
            if principal.user_id not in (None, one.order.user_id or ""):
                raise BatchInvalid(field="user_id", problem="of a request is not the user that the batch is for")
            rows.append((one.custom_id, one.order.user_id or "", one.order.to_json()))
        batch_plan.write_requests(tx, batch.id, rows, first=first)
        count = len(rows)
    if items.more:
        batches.change(tx, batch.id, planned=batch.planned + count)
    else:
        close(tx, batch, planned=batch.planned + count)


def _check_once(names: Sequence[str], field: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BatchInvalid(field=field, problem=f"name {name!r} twice")
        seen.add(name)


def _said(items: ExplicitItems | None) -> Mapping[str, object] | None:
    if items is None:
        return None
    requests = [[one.custom_id, one.order.to_json()] for one in items.requests]
    return {"ids": list(items.ids), "requests": requests, "more": items.more}


def _canonical(said: object) -> bytes:
    return json.dumps(said, sort_keys=True).encode()


def _found(tx: Transaction, batch_id: str, principal: Principal) -> Batch:
    batch = batches.get(tx, batch_id, principal=principal)
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch
