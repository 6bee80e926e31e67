"""Runs: enqueue, list, look, wait, watch, cancel."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, TypeAdapter
from starlette.concurrency import run_in_threadpool

from api_stub import schemas, sse
from api_stub.auth import RunsRead, RunsWrite, ServiceDep
from api_stub.cursors import Cursors
from api_stub.errors import responses
from api_stub.parameters import Cursor, ForUser, IdempotencyKey, Limit, OfTeam, RunId
from api_stub.service import Service
from worker import clock
from worker.domain import run as domain
from worker.domain.event import TERMINAL, EventId
from worker.domain.fields import TEXT
from worker.domain.principal import Principal
from worker.domain.run_order import validate_order
from worker.domain.text import check_id
from worker.errors import InvalidEventId, RunNotFound
from worker.runs import cancel, enqueue, retry
from worker.store import run_pages, runs

router = APIRouter(prefix="/v1/runs", tags=["runs"])
LOOK_S = 1.0  # while waiting, look at the row at least so often: its event may be lost

RUNS: Cursors[str] = Cursors("runs", TypeAdapter(Annotated[str, Field(pattern="^(run|replay)_[0-9a-f]{32}$")]))  # by id

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The run is committed.",
        "headers": {"Location": {"description": "Where to look at it.", "schema": {"type": "string"}}},
    }
}


@router.post("", status_code=202, responses=ACCEPTED | responses(400, 404, 409, 413, 422))
def enqueue_run(
    body: schemas.RunRequest,
    service: ServiceDep,
    principal: RunsWrite,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> domain.Run:
    """Accept a run: it is committed before this answers, waits its turn in its session, and is executed by a worker."""
    principal.check_team(body.team)
    order = replace(body, user_id=principal.acting_for(body.user_id))
    validate_order(order, max_input_bytes=service.settings.max_input_bytes)
    if idempotency_key is not None:
        check_id(idempotency_key, field="Idempotency-Key")
    service.teams.check(order.team)
    service.queue_limits.check(order.user_id or "", idempotency_key=idempotency_key)
    accepted = enqueue.enqueue(service.db, order, settings=service.settings, idempotency_key=idempotency_key)
    service.dispatcher.send(accepted.dispatches)
    response.headers["Location"] = f"/v1/runs/{accepted.run.id}"
    return accepted.run


@router.get("", responses=responses(422))
def list_runs(
    service: ServiceDep,
    principal: RunsRead,
    status: Annotated[domain.Status | None, Query(description="Only those of this status.")] = None,
    team: OfTeam = None,
    user_id: ForUser = None,
    session_id: Annotated[
        str | None,
        Query(description="Only those of this session.", examples=["s-42"], json_schema_extra=TEXT),
        schemas.storable("session_id"),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Query(
            description="Only the one that was accepted under this Idempotency-Key; a key belongs to a user.",
            examples=["order-17"],
            json_schema_extra=TEXT,
        ),
        schemas.storable("idempotency_key"),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schemas.RunPage:
    """Runs, newest first."""
    if team is not None:
        principal.check_team(team)
    wanted = run_pages.RunFilters(user_id, team, status, session_id, idempotency_key)
    before = RUNS.read(cursor)
    with service.db.read() as tx:
        found = run_pages.page(tx, wanted, principal=principal, before=before, limit=limit + 1)
    more = RUNS.behind(found, lambda run: run.id, limit=limit)
    return schemas.RunPage(data=found[:limit], next_cursor=more)


@router.get("/{run_id}", responses=responses(404, 422))
async def get_run(
    run_id: RunId,
    service: ServiceDep,
    principal: RunsRead,
    user_id: ForUser = None,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for its end.", examples=[30])] = 0,
) -> domain.Run:
    """The run as it is: at once, or as soon as it is terminal, at the latest after `wait` seconds."""
    deadline = clock.monotonic() + wait
    place = await service.follower.newest(run_id) if wait else EventId(0, 0)
    run = await _find(service, principal, run_id, user_id)
    while not (run.status.terminal or service.follower.leaving) and (left := deadline - clock.monotonic()) > 0:
        events = await service.follower.read(run_id, after=place, wait_s=min(left, LOOK_S))
        place = events[-1][0] if events else place
        if not events or any(event.type in TERMINAL for _id, event in events):
            run = await _find(service, principal, run_id, user_id)
    return run


@router.post("/{run_id}/cancel", status_code=202, responses=responses(404, 422))
def cancel_run(run_id: RunId, service: ServiceDep, principal: RunsWrite, user_id: ForUser = None) -> domain.Run:
    """End a run: at once if it is queued or its worker is silent, else within a second. What it wrote is kept."""
    run, dispatches = cancel.cancel(service.db, run_id, principal=principal, user_id=user_id)
    service.dispatcher.send(dispatches)
    return run


@router.post("/{run_id}/retry", status_code=202, responses=ACCEPTED | responses(404, 409, 422))
def retry_run(
    run_id: RunId,
    service: ServiceDep,
    principal: RunsWrite,
    response: Response,
    user_id: ForUser = None,
    idempotency_key: IdempotencyKey = None,
) -> domain.Run:
    """A failed or cancelled run again: a new run with its input at the end of its session, with `retry_of`."""
    if idempotency_key is not None:
        check_id(idempotency_key, field="Idempotency-Key")
    accepted = retry.retry(
        service.db,
        run_id,
        settings=service.settings,
        queue_limits=service.queue_limits,
        principal=principal,
        user_id=user_id,
        idempotency_key=idempotency_key,
    )
    service.dispatcher.send(accepted.dispatches)
    response.headers["Location"] = f"/v1/runs/{accepted.run.id}"
    return accepted.run


@router.get("/{run_id}/events", response_class=StreamingResponse, responses=sse.ANSWER | responses(404, 422))
async def watch_run(
    run_id: RunId,
    service: ServiceDep,
    principal: RunsRead,
    user_id: ForUser = None,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Go on behind this event.",
            examples=["1-5"],
            json_schema_extra={"pattern": r"^([0-9]+-[0-9]+)?$"},
        ),
    ] = None,
) -> StreamingResponse:
    """The run's events as they happen, as text/event-stream, up to the one terminal event."""
    after = EventId.parse(last_event_id) if last_event_id else None
    run = await _find(service, principal, run_id, user_id)
    if last_event_id and (after is None or after.fence > run.fence or after.n >= 2**64):
        raise InvalidEventId(found=last_event_id[:40])
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(sse.follow(service, run, after=after), media_type="text/event-stream", headers=headers)


async def _find(service: Service, principal: Principal, run_id: str, user_id: str | None) -> domain.Run:
    def read() -> domain.Run | None:
        with service.db.read() as tx:
            return runs.get(tx, run_id, principal=principal, user_id=user_id)

    run = await run_in_threadpool(read)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return run
