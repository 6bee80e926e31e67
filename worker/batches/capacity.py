"""How many items of a batch may begin now: its window, canary, limits per minute and budget.

What an item uses is known when it has ended. Items in flight, and the next ones, are assumed to use the average of the
ended ones. Until the first item has ended, a batch with such a limit or budget begins one item at a time.
"""

import math

from worker.domain import Batch, BatchStatus, PausedBy
from worker.store import LockedBatch


def capacity(locked: LockedBatch, *, paused: int) -> int:
    """Return how many items may begin now. Those whose run is *paused* leave their place in the window to others."""
    batch, order = locked.batch, locked.batch.order
    limits, usage, minute = order.limits, batch.spent.usage, locked.minute
    if batch.status is not BatchStatus.RUNNING:
        return 0
    bounds: list[float] = [order.window - (batch.in_flight - paused), batch.planned - batch.fed]
    if batch.canary is not None:
        bounds.append(batch.canary - batch.fed)
    if limits.items_per_minute is not None:
        bounds.append(limits.items_per_minute - minute["items"])
    if limits.requests_per_minute is not None:
        left = limits.requests_per_minute - minute["requests"]
        bounds.append(_affordable(batch, left, used=usage.model_calls))
    if limits.tokens_per_minute is not None:
        bounds.append(_affordable(batch, limits.tokens_per_minute - minute["tokens"], used=usage.tokens))
    return max(0, math.floor(min(*bounds, *_affordable_in_total(batch))))


def pause_reason(locked: LockedBatch) -> PausedBy | None:
    """Return why a batch with items left and none in flight has to pause; None: it does not have to."""
    batch = locked.batch
    if batch.status is not BatchStatus.RUNNING or batch.in_flight or batch.fed >= batch.planned:
        return None
    if batch.canary is not None and batch.fed >= batch.canary:
        return PausedBy.CANARY
    return PausedBy.BUDGET if min(_affordable_in_total(batch), default=1) < 1 else None


def _affordable_in_total(batch: Batch) -> list[float]:
    """Return how many more items each part of the budget is enough for."""
    budget, spent, items = batch.order.budget, batch.spent, []
    if budget.tokens is not None:
        items.append(_affordable(batch, budget.tokens - spent.usage.tokens, used=spent.usage.tokens))
    if budget.cost is not None:
        items.append(_affordable(batch, budget.cost - spent.cost, used=spent.cost))
    return items


def _affordable(batch: Batch, left: float, *, used: float) -> float:
    """Return how many more items *left* is enough for, besides those in flight, if the ended ones have *used* that."""
    if left <= 0:
        return 0
    if not batch.ended:
        return 1 - batch.in_flight
    each = used / batch.ended
    return math.inf if each == 0 else left / each - batch.in_flight
