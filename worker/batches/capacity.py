"""How many items of a batch may be begun now: its window, its canary, its limits a minute, its budget.

What an item uses is known when it has ended. So those in flight, and the next ones, are taken to use what those before
them did on average; until the first has ended, they go one at a time where a limit or a budget speaks of it.
"""

import math

from worker.domain.batch import Batch, BatchStatus, PausedBy
from worker.store.batches import LockedBatch


def capacity(held: LockedBatch) -> int:
    """Return how many items may be begun now."""
    batch, limits = held.batch, held.batch.order.limits
    if batch.status is not BatchStatus.RUNNING:
        return 0
    bounds: list[float] = [batch.order.window - batch.in_flight, batch.planned - batch.fed]
    if batch.canary is not None:
        bounds.append(batch.canary - batch.fed)
    if limits.items_per_minute is not None:
        bounds.append(limits.items_per_minute - held.minute["items"])
    usage = batch.spent.usage
    bounds += [
        _affordable(batch, left, used)
        for left, used in (
            (_left(limits.requests_per_minute, held.minute["requests"]), usage.model_calls),
            (_left(limits.tokens_per_minute, held.minute["tokens"]), usage.tokens),
            (_left(limits.budget_tokens, usage.tokens), usage.tokens),
            (_left(limits.budget_cost, batch.spent.cost), batch.spent.cost),
        )
        if left is not None
    ]
    return max(0, math.floor(min(bounds)))


def pause_reason(held: LockedBatch) -> PausedBy | None:
    """Return why a batch with nothing in flight, and items left, shall wait for somebody; None: it shall not."""
    batch, limits = held.batch, held.batch.order.limits
    if batch.status is not BatchStatus.RUNNING or batch.in_flight or batch.fed >= batch.planned:
        return None
    if batch.canary is not None and batch.fed >= batch.canary:
        return PausedBy.CANARY
    tokens, cost = batch.spent.usage.tokens, batch.spent.cost
    for left, used in ((_left(limits.budget_tokens, tokens), tokens), (_left(limits.budget_cost, cost), cost)):
        if left is not None and _affordable(batch, left, used) < 1:
            return PausedBy.BUDGET
    return None


def _left(limit: float | None, used: float) -> float | None:
    return None if limit is None else limit - used


def _affordable(batch: Batch, left: float, used: float) -> float:
    """Return how many more items *left* is enough for, beside those in flight."""
    if left <= 0:
        return 0
    if not batch.ended:
        return 1 - batch.in_flight
    each = used / batch.ended
    return math.inf if each == 0 else left / each - batch.in_flight
