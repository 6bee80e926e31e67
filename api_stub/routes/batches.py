"""Batches: create, read, pause, resume, cancel and retry; their items and results."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field, TypeAdapter

from api_stub import batch_schemas as schemas
from api_stub import errors, pagination
from api_stub.dependencies import Batches, BatchId, BatchResults, ForUser, IdempotencyKey, ServiceDep
from api_stub.memory import BoundedRoute, ReadsLarge
from api_stub.schemas import COMMITTED, Responses, text_answer
from api_stub.streams import LastingResponse
from worker.batches import accept, lifecycle
from worker.domain import Batch, Estimate, Item, ItemStatus, Principal, Result, Selection
from worker.errors import BatchInvalid
from worker.store import batches

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=BoundedRoute)

_Id = Annotated[str, Field(pattern="^batch_[0-9a-f]{32}$")]
BATCHES = pagination.Pages[Batch, str]("batches", _Id, lambda batch: batch.id)
ITEMS = pagination.Pages[Item, int]("items", Annotated[int, Field(ge=1, lt=2**31)], lambda item: item.number)
RESULT: TypeAdapter[Any] = TypeAdapter(Result)
CHUNK = 200  # results read in one query

ESTIMATE: Responses = {200: {"description": "With `dry_run`: an estimate. Nothing is written.", "model": Estimate}}
LINES = text_answer(
    "application/x-ndjson",
    "One JSON object per line: an item as in `…/items`, with `old_output` and `new_output`.",
)


@router.post(
    "",
    status_code=202,
    response_model=schemas.Batch,
    responses=ESTIMATE | COMMITTED | errors.responses(400, 404, 409, 413, 422),
)
def create_batch(
    body: schemas.BatchRequest,
    service: ServiceDep,
    principal: Batches,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Batch | JSONResponse:
    """Create a batch over many sessions or runs. The request selects them with filters, or lists them."""
    order = schemas.batch_order(body, prices_file=service.settings.prices)
    principal = _acting_for(principal, body.select.user_id)
    items = schemas.explicit_items(body, kind=order.kind, principal=principal, known=service.teams)
    select = order.select
    if items is not None and select != Selection(user_id=select.user_id, status=select.status):
        raise BatchInvalid(field="'select'", problem="has filters, but the request also lists items: send only one")
    if body.dry_run:
        if items is not None:
            raise BatchInvalid(field="'dry_run'", problem="works only with filters, but the request lists items")
        return JSONResponse(asdict(accept.estimate(service.db, order, principal=principal)))
    batch = accept.create(
        service.db, order, principal=principal, settings=service.settings, items=items, idempotency_key=idempotency_key
    )
    response.headers["Location"] = f"/v1/batches/{batch.id}"
    return schemas.Batch.of(batch)


@router.get("", responses=errors.responses(422))
def list_batches(
    service: ServiceDep,
    principal: Batches,
    user_id: ForUser = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.BatchPage:
    """List batches, newest first. A key bound to teams sees the batches of keys that are bound to the same teams."""
    before = BATCHES.decode(cursor)
    with service.db.read() as tx:
        rows = batches.page(tx, principal=_acting_for(principal, user_id), before=before, limit=limit)
    return schemas.BatchPage(data=[schemas.Batch.of(batch) for batch in rows], next_cursor=BATCHES.next_cursor(rows))


@router.get("/{batch_id}", responses=errors.responses(404, 422))
def get_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Read a batch: its progress, usage and cost, and the estimated time of its end."""
    return schemas.Batch.of(lifecycle.get(service.db, batch_id, principal=_acting_for(principal, user_id)))


@router.get("/{batch_id}/items", responses=errors.responses(404, 422))
def list_items(
    batch_id: BatchId,
    service: ServiceDep,
    principal: Batches,
    user_id: ForUser = None,
    status: Annotated[ItemStatus | None, Query(description="Only items with this status.")] = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.ItemPage:
    """List the items of a batch in order, each with the current status of its run or of its session's refresh."""
    after, principal = ITEMS.decode(cursor) or 0, _acting_for(principal, user_id)
    rows = lifecycle.items(service.db, batch_id, principal=principal, after=after, limit=limit, status=status)
    return schemas.ItemPage(data=rows, next_cursor=ITEMS.next_cursor(rows))


@router.post("/{batch_id}/items", status_code=202, responses=errors.responses(400, 404, 409, 413, 422))
def add_items(
    batch_id: BatchId, body: schemas.MoreItems, service: ServiceDep, principal: Batches, user_id: ForUser = None
) -> schemas.Batch:
    """Add items to a batch that was created with `more`. Send the last items without `more`."""
    principal = _acting_for(principal, user_id)
    batch = lifecycle.get(service.db, batch_id, principal=principal)
    principal = _acting_for(principal, batch.order.select.user_id)
    items = schemas.explicit_items(body, kind=batch.order.kind, principal=principal, known=service.teams)
    if items is None:
        raise BatchInvalid(field="The items", problem=f"are missing: send {schemas.LISTS[batch.order.kind]!r}")
    batch = accept.add(service.db, batch_id, items, principal=principal, settings=service.settings, first=body.first)
    return schemas.Batch.of(batch)


@router.get("/{batch_id}/results", response_class=StreamingResponse, responses=LINES | errors.responses(404, 422))
def read_results(
    batch_id: BatchId, service: ServiceDep, principal: BatchResults, user_id: ForUser = None
) -> StreamingResponse:
    """Read all items in order, as JSON lines, with the answers of their runs; for replays, also the old answers.

    The key needs the scope `runs:read` too.
    """
    principal = _acting_for(principal, user_id)
    lifecycle.get(service.db, batch_id, principal=principal)  # raises BatchNotFound before the response begins
    return LastingResponse(
        _results(service, batch_id, principal), service.streams, principal, media_type="application/x-ndjson"
    )


@router.post("/{batch_id}/pause", status_code=202, responses=errors.responses(404, 409, 422))
def pause_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Pause a batch: begin no more items. Items in flight continue."""
    return schemas.Batch.of(lifecycle.pause(service.db, batch_id, principal=_acting_for(principal, user_id)))


@router.post("/{batch_id}/resume", status_code=202, responses=errors.responses(400, 404, 409, 413, 422))
def resume_batch(
    batch_id: BatchId,
    service: ServiceDep,
    principal: Batches,
    body: schemas.Resume | None = None,
    user_id: ForUser = None,
) -> schemas.Batch:
    """Resume a paused batch. After a canary, this approves all other items. A used-up budget must be raised."""
    principal = _acting_for(principal, user_id)
    budget = body.budget if body is not None else None
    return schemas.Batch.of(lifecycle.resume(service.db, batch_id, principal=principal, budget=budget))


@router.post("/{batch_id}/cancel", status_code=202, responses=errors.responses(404, 422))
def cancel_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Cancel a batch: begin no more items, and cancel the runs in flight. A batch that has ended does not change."""
    send, principal = service.dispatcher.send, _acting_for(principal, user_id)
    return schemas.Batch.of(lifecycle.cancel(service.db, batch_id, principal=principal, send=send))


@router.post("/{batch_id}/retry", status_code=202, responses=errors.responses(404, 409, 422))
def retry_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Retry the items that failed, diverged or were cancelled."""
    return schemas.Batch.of(lifecycle.retry(service.db, batch_id, principal=_acting_for(principal, user_id)))


def _acting_for(principal: Principal, user_id: str | None) -> Principal:
    """Return *principal* bound to the user for whom it acts. Raises UserForbidden."""
    return replace(principal, user_id=principal.acting_for(user_id))


def _results(service: ServiceDep, batch_id: str, principal: Principal) -> Iterator[str]:
    after = 0
    while page := lifecycle.items(service.db, batch_id, principal=principal, after=after, limit=CHUNK, texts=True):
        for item in page:
            yield json.dumps(RESULT.dump_python(item, mode="json"), ensure_ascii=False) + "\n"
        after = page[-1].number
