"""What the API can be asked for about batches; `calls` has the rest, and says how these functions are used."""

from collections.abc import Sequence

from api_stub.client.core import Listing, Request
from api_stub.client.encoding import PAGE, given, path_of, query_of, with_key
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
    """Order a batch and return it: it is committed. Its items are found with *select*, or are those that are named.

    At most 10,000 items fit into one request; with *more* others follow by `add_to_batch`. It is sent again until it is
    answered, under one key, so that it makes one batch.
    """
    body = given(
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
    """Say what a batch would be: how many items, which first, about how many tokens and what these cost."""
    return Request("POST", path_of("batches"), body=given(kind=kind, select=select, dry_run=True))


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
    """Give more items to a batch that was ordered with `more`; without *more* they were the last, and it begins.

    *first* is the number of the first of them, `items.planned` + 1. What stands there already is not written twice.
    """
    ids = {"session_ids": _list(session_ids), "run_ids": _list(run_ids), "requests": _list(requests)}
    body = given(first=first, more=more, **ids)
    return Request("POST", path_of("batches", batch_id, "items"), query_of(user_id=user_id), body=body)


def batches(*, user_id: str | None = None) -> Listing[Batch]:
    """Yield batches, the newest first, page by page."""
    return Listing(Request("GET", path_of("batches"), {**query_of(user_id=user_id), "limit": str(PAGE)}))


def batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Return a batch."""
    return Request("GET", path_of("batches", batch_id), query_of(user_id=user_id))


def batch_items(batch_id: str, *, status: ItemStatus | None = None, user_id: str | None = None) -> Listing[Item]:
    """Yield the items of a batch, in their order, page by page; those of one *status* only."""
    query = query_of(status=status, user_id=user_id)
    return Listing(Request("GET", path_of("batches", batch_id, "items"), {**query, "limit": str(PAGE)}))


def batch_results(batch_id: str, *, user_id: str | None = None) -> Lines:
    """Yield all items of a batch, in their order, with `old_output` and `new_output`.

    Raises:
        Unreachable: the connection broke. What was yielded is not all: begin again.
    """
    return Lines(Request("GET", path_of("batches", batch_id, "results"), query_of(user_id=user_id)))


def pause_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Begin no more items; those in flight go on."""
    return Request("POST", path_of("batches", batch_id, "pause"), query_of(user_id=user_id))


def resume_batch(batch_id: str, *, budget: Budget | None = None, user_id: str | None = None) -> Request[Batch]:
    """Go on: after a canary this is the yes; a *budget* that is used up has to be raised."""
    return Request("POST", path_of("batches", batch_id, "resume"), query_of(user_id=user_id), body=given(budget=budget))


def cancel_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Begin no more items, cancel the runs of those in flight, and return the batch as it is now."""
    return Request("POST", path_of("batches", batch_id, "cancel"), query_of(user_id=user_id))


def retry_batch(batch_id: str, *, user_id: str | None = None) -> Request[Batch]:
    """Begin the items again that failed, diverged or were cancelled."""
    return Request("POST", path_of("batches", batch_id, "retry"), query_of(user_id=user_id))


def _list(named: Sequence[object] | None) -> list[object] | None:
    return None if named is None else list(named)
