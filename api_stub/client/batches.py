"""The requests of the API about batches. `calls` has all others, and says how these functions are used."""

from collections.abc import Sequence

from api_stub.client.core import Listing, Request
from api_stub.client.encoding import listing, not_none, path_of, with_key
from api_stub.client.streams import Lines
from api_stub.client.types import Batch, BatchKind, BatchRun, Budget, Estimate, Item, ItemStatus, Limits, Selection


def create_batch(
    kind: BatchKind,
    *,
    select: Selection | None = None,
    session_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    requests: Sequence[BatchRun] | None = None,
    more: bool | None = None,
    canary: str | None = None,
    window: int | None = None,
    limits: Limits | None = None,
    budget: Budget | None = None,
    rebuild: bool | None = None,
    execute_tools: bool | None = None,
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Request[Batch]:
    """Create a batch and return it, committed. Pass its items, or *select* them.

    One request takes at most 10,000 items; with *more*, send the others by `add_to_batch`. Retries never create a
    second batch.
    """
    body = not_none(
        kind=kind,
        select=select,
        session_ids=_list(session_ids),
        run_ids=_list(run_ids),
        requests=_list(requests),
        more=more,
        canary=canary,
        window=window,
        limits=limits,
        budget=budget,
        rebuild=rebuild,
        execute_tools=execute_tools,
        name=name,
    )
    return Request("POST", path_of("batches"), body=body, headers=with_key(idempotency_key))


def estimate_batch(kind: BatchKind, *, select: Selection | None = None) -> Request[Estimate]:
    """Estimate a batch without creating it: its items, a sample of them, about how many tokens and their cost."""
    return Request("POST", path_of("batches"), body=not_none(kind=kind, select=select, dry_run=True))


def add_to_batch(
    batch_id: str,
    *,
    first: int,
    session_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    requests: Sequence[BatchRun] | None = None,
    more: bool | None = None,
    user_id: str | None = None,
) -> Request[Batch]:
    """Add items to a batch that was created with `more`. Without *more* here these are the last, and the batch starts.

    *first* is the number of the first item, `items.planned` + 1. Items that were added before are not added twice.
    """
    body = not_none(
        first=first,
        more=more,
        session_ids=_list(session_ids),
        run_ids=_list(run_ids),
        requests=_list(requests),
    )
    return Request("POST", path_of("batches", batch_id, "items"), not_none(user_id=user_id), body=body)


def batches(*, user_id: str | None = None) -> Listing[Batch]:
    """Yield batches, the newest first, page by page."""
    return listing("batches", user_id=user_id)


def batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Return a batch."""
    return Request("GET", path_of("batches", batch_id), not_none(user_id=user_id))


def batch_items(batch_id: str, *, status: ItemStatus | None = None, user_id: str | None = None) -> Listing[Item]:
    """Yield the items of a batch, or those of one *status*, in order, page by page."""
    return listing("batches", batch_id, "items", status=status, user_id=user_id)


def batch_results(batch_id: str, *, user_id: str | None = None) -> Lines:
    """Yield all items of a batch, in order, with `old_output` and `new_output`.

    Raises:
        Unreachable: the connection broke, and items are missing. Begin again.
    """
    return Lines(Request("GET", path_of("batches", batch_id, "results"), not_none(user_id=user_id)))


def pause_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Start no more items; those in flight continue."""
    return Request("POST", path_of("batches", batch_id, "pause"), not_none(user_id=user_id))


def resume_batch(batch_id: str, *, budget: Budget | None = None, user_id: str | None = None) -> Request[Batch]:
    """Resume a paused batch. After a canary this approves the rest. After a used-up budget, pass a higher *budget*."""
    body = not_none(budget=budget)
    return Request("POST", path_of("batches", batch_id, "resume"), not_none(user_id=user_id), body=body)


def cancel_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Start no more items, cancel the runs in flight, and return the batch as it is now."""
    return Request("POST", path_of("batches", batch_id, "cancel"), not_none(user_id=user_id))


def retry_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Start the items again that failed, diverged or were cancelled."""
    return Request("POST", path_of("batches", batch_id, "retry"), not_none(user_id=user_id))


def _list(items: Sequence[object] | None) -> list[object] | None:
    return None if items is None else list(items)
