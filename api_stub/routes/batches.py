"""Batches: order, look, pause, go on, cancel, try again; their items and results."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from api_stub import batch_schemas as schemas
from api_stub.batch_orders import check_no_filter, given_of, order_of
from api_stub.dependencies import Batches, BatchId, ForUser, IdempotencyKey, ServiceDep
from api_stub.errors import responses
from api_stub.pagination import Cursor, Limit, Pages
from api_stub.service import Service
from worker.batches import accept, lifecycle
from worker.domain.batch import Batch, Item
from worker.domain.principal import Principal
from worker.errors import BatchInvalid
from worker.store import batches

router = APIRouter(prefix="/v1/batches", tags=["batches"])

_Id = Annotated[str, Field(pattern="^batch_[0-9a-f]{32}$")]
BATCHES = Pages[Batch, str]("batches", _Id, lambda batch: batch.id)
ITEMS = Pages[Item, int]("items", Annotated[int, Field(ge=1, lt=2**31)], lambda item: item.number)
AT_ONCE = 200  # items that are read at once for their results

ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Nothing is written: what it would be (`dry_run`).", "model": schemas.Estimate},
    202: {
        "description": "The batch is committed.",
        "headers": {"Location": {"description": "Where to look at it.", "schema": {"type": "string"}}},
    },
}
LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line: an item as `…/items` shows it, with `old_output` and `new_output`.",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


@router.post("", status_code=202, response_model=schemas.Batch, responses=ACCEPTED | responses(400, 404, 409, 413, 422))
def create_batch(
    body: schemas.BatchRequest,
    service: ServiceDep,
    principal: Batches,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> schemas.Batch | JSONResponse:
    """Accept a batch: one order over many sessions or runs, found by filters or given by name."""
    order = order_of(body, prices_file=service.settings.prices)
    principal = _acting_for(principal, body.select.user_id)
    items = given_of(body, kind=order.kind, principal=principal, known=service.teams)
    if items is not None:
        check_no_filter(order)
    if body.dry_run:
        if items is not None:
            raise BatchInvalid(field="dry_run", problem="is for filters: what is given by name is known")
        found = accept.estimate(service.db, order, principal=principal)
        return JSONResponse(schemas.Estimate.model_validate(found, from_attributes=True).model_dump(mode="json"))
    rules: dict[str, Any] = {"principal": principal, "settings": service.settings, "idempotency_key": idempotency_key}
    batch = accept.create(service.db, order, items=items, **rules)
    response.headers["Location"] = f"/v1/batches/{batch.id}"
    return schemas.Batch.of(batch)


@router.get("", responses=responses(422))
def list_batches(
    service: ServiceDep, principal: Batches, user_id: ForUser = None, cursor: Cursor = None, limit: Limit = 50
) -> schemas.BatchPage:
    """Batches, newest first. A key bound to teams sees those that were ordered by keys bound to the same ones."""
    before = BATCHES.decode(cursor)
    with service.db.read() as tx:
        found = batches.page(tx, principal=_acting_for(principal, user_id), before=before, limit=limit + 1)
    page, next_cursor = BATCHES.page(found, limit=limit)
    return schemas.BatchPage(data=[schemas.Batch.of(batch) for batch in page], next_cursor=next_cursor)


@router.get("/{batch_id}", responses=responses(404, 422))
def get_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """One batch: how far it is, what it has used and cost, when it will be done."""
    return schemas.Batch.of(lifecycle.get(service.db, batch_id, principal=_acting_for(principal, user_id)))


@router.get("/{batch_id}/items", responses=responses(404, 422))
def list_items(
    batch_id: BatchId,
    service: ServiceDep,
    principal: Batches,
    user_id: ForUser = None,
    status: Annotated[schemas.ItemStatus | None, Query(description="Only those of this status.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schemas.ItemPage:
    """The items of a batch, in their order, each with the status that its run or its session's refresh has now."""
    after, principal = ITEMS.decode(cursor) or 0, _acting_for(principal, user_id)
    found = lifecycle.items(service.db, batch_id, principal=principal, after=after, limit=limit + 1, status=status)
    page, next_cursor = ITEMS.page(found, limit=limit)
    return schemas.ItemPage(data=[schemas.Item.of(item) for item in page], next_cursor=next_cursor)


@router.post("/{batch_id}/items", status_code=202, responses=responses(400, 404, 409, 413, 422))
def add_items(
    batch_id: BatchId, body: schemas.MoreItems, service: ServiceDep, principal: Batches, user_id: ForUser = None
) -> schemas.Batch:
    """Give more items to a batch whose order said that there are `more`. Without `more` here, they were the last."""
    principal = _acting_for(principal, user_id)
    batch = lifecycle.get(service.db, batch_id, principal=principal)
    principal = _acting_for(principal, batch.order.select.user_id)
    items = given_of(body, kind=batch.order.kind, principal=principal, known=service.teams)
    if items is None:
        raise BatchInvalid(field="The items", problem="are missing: name them as its order did")
    place: dict[str, Any] = {"first": body.first, "principal": principal, "settings": service.settings}
    return schemas.Batch.of(accept.add(service.db, batch_id, items, **place))


@router.get("/{batch_id}/results", response_class=StreamingResponse, responses=LINES | responses(404, 422))
def read_results(
    batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None
) -> StreamingResponse:
    """All items as JSON lines, in their order, with the answers of their runs; of replays with the old ones too."""
    principal = _acting_for(principal, user_id)
    lifecycle.get(service.db, batch_id, principal=principal)  # what is refused is refused before the answer begins
    return StreamingResponse(_results(service, batch_id, principal), media_type="application/x-ndjson")


@router.post("/{batch_id}/pause", status_code=202, responses=responses(404, 409, 422))
def pause_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Begin no more items; those in flight go on."""
    return schemas.Batch.of(lifecycle.pause(service.db, batch_id, principal=_acting_for(principal, user_id)))


@router.post("/{batch_id}/resume", status_code=202, responses=responses(400, 404, 409, 413, 422))
def resume_batch(
    batch_id: BatchId,
    service: ServiceDep,
    principal: Batches,
    body: schemas.Resume | None = None,
    user_id: ForUser = None,
) -> schemas.Batch:
    """Go on. After a canary this is the yes to all the others; a budget that is used up has to be raised with it."""
    budget = body.budget if body is not None else schemas.Budget()
    raised: dict[str, Any] = {"budget_tokens": budget.tokens, "budget_cost": budget.cost}
    return schemas.Batch.of(lifecycle.resume(service.db, batch_id, principal=_acting_for(principal, user_id), **raised))


@router.post("/{batch_id}/cancel", status_code=202, responses=responses(404, 422))
def cancel_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """End a batch: begin no more items, and cancel the runs of those in flight. One that has ended stays as it is."""
    send, principal = service.dispatcher.send, _acting_for(principal, user_id)
    return schemas.Batch.of(lifecycle.cancel(service.db, batch_id, principal=principal, send=send))


@router.post("/{batch_id}/retry", status_code=202, responses=responses(404, 409, 422))
def retry_batch(batch_id: BatchId, service: ServiceDep, principal: Batches, user_id: ForUser = None) -> schemas.Batch:
    """Begin the items again that failed, diverged or were cancelled."""
    return schemas.Batch.of(lifecycle.retry(service.db, batch_id, principal=_acting_for(principal, user_id)))


def _acting_for(principal: Principal, user_id: str | None) -> Principal:
    """Return who asks, bound to the user that they name. Raises UserForbidden."""
    return replace(principal, user_id=principal.acting_for(user_id))


def _results(service: Service, batch_id: str, principal: Principal) -> Iterator[str]:
    number = 0
    place: dict[str, Any] = {"principal": principal, "limit": AT_ONCE, "texts": True}
    while found := lifecycle.items(service.db, batch_id, after=number, **place):
        for item in found:
            yield json.dumps(schemas.Result.of(item).model_dump(mode="json"), ensure_ascii=False) + "\n"
        number = found[-1].number
