"""Runs: enqueue, list, get, wait, cancel, retry, watch, and why one is not moving."""

from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from api_stub import dependencies as deps
from api_stub import errors, pagination, schemas, sse
from api_stub.memory import BoundedRoute, ReadsLarge
from api_stub.streams import LastingResponse
from worker import clock
from worker.domain import EventId, Principal, Run, RunOrder, Status, check_id, validate_order
from worker.domain.event import RUN_PAUSED, TERMINAL
from worker.errors import InvalidEventId, RunNotFound
from worker.runs import cancel, enqueue, retry, why
from worker.store import pending_calls, runs

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=BoundedRoute)
LAST = TERMINAL | {RUN_PAUSED.name}  # events that a wait ends with
WAITED = (Status.QUEUED, Status.RUNNING)  # a paused run waits for its caller
POLL_S = 1.0  # while waiting, read the row at least this often: its event may be lost

_Id = Annotated[str, Field(pattern="^(run|replay)_[0-9a-f]{32}$")]
RUNS = pagination.Pages[Run, str]("runs", _Id, lambda run: run.id)


@router.post("", status_code=202, responses=schemas.COMMITTED | errors.responses(400, 404, 409, 413, 422))
async def enqueue_run(
    body: schemas.RunRequest,
    service: deps.ServiceDep,
    principal: deps.RunsWrite,
    response: Response,
    idempotency_key: deps.IdempotencyKey = None,
) -> Run | schemas.RunReceipt:
    """Accept a run. It is committed before this answers; a worker executes it when its turn in its session comes."""
    principal.check_team(body.team)
    order = replace(body, user_id=principal.acting_for(body.user_id))
    user = order.user_id or ""
    rows = [("id", user, order.session_id)] if order.session_id else []
    if idempotency_key is not None:
        check_id(idempotency_key, field="Idempotency-Key")
        rows = [("key", user, idempotency_key), *rows]
    async with AsyncExitStack() as turns:
        for row in rows:
            await turns.enter_async_context(service.turns.at(*row))
        run = await service.threads.run(_enqueue, service, order, idempotency_key)
    response.headers["Location"] = f"/v1/runs/{run.id}"
    return schemas.RunReceipt.of(run, principal)


def _enqueue(service: deps.ServiceDep, order: RunOrder, idempotency_key: str | None) -> Run:
    validate_order(order, max_input_bytes=service.settings.max_input_bytes)
    service.teams.check(order.team)
    service.queue_limits.check(order.user_id or "", idempotency_key=idempotency_key)
    accepted = enqueue.enqueue(service.db, order, settings=service.settings, idempotency_key=idempotency_key)
    service.dispatcher.send(accepted.dispatches)
    return accepted.run


@router.get("", responses=errors.responses(422))
def list_runs(
    service: deps.ServiceDep,
    principal: deps.RunsRead,
    status: Annotated[Status | None, Query(description="Only runs with this status.")] = None,
    team: deps.OfTeam = None,
    user_id: deps.ForUser = None,
    session_id: deps.OfSession = None,
    idempotency_key: deps.ByIdempotencyKey = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.RunPage:
    """Runs, newest first."""
    if team is not None:
        principal.check_team(team)
    filters = runs.RunFilters(user_id, team, status, session_id, idempotency_key)
    before = RUNS.decode(cursor)
    with service.db.read() as tx:
        rows = runs.page(tx, filters, principal=principal, before=before, limit=limit)
        rows[:] = pending_calls.attached(tx, rows)
    return schemas.RunPage(data=rows, next_cursor=RUNS.next_cursor(rows))


@router.get("/{run_id}", responses=errors.responses(404, 422))
async def get_run(
    run_id: deps.RunId,
    service: deps.ServiceDep,
    principal: deps.RunsRead,
    user_id: deps.ForUser = None,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for its end.", examples=[30])] = 0,
) -> Run:
    """One run. With `wait`, answers as soon as the run has ended or paused, or after `wait` seconds."""
    if not wait:
        return await _find(service, principal, run_id, user_id)
    async with service.streams.open(principal):
        return await _wait(service, principal, run_id, user_id, wait_s=wait)


async def _wait(
    service: deps.ServiceDep, principal: Principal, run_id: str, user_id: str | None, *, wait_s: float
) -> Run:
    deadline = clock.monotonic() + wait_s
    last_id = await service.follower.newest(run_id)
    run = await _find(service, principal, run_id, user_id, texts=False)  # many can wait at once
    while run.status in WAITED and not service.follower.leaving and (left := deadline - clock.monotonic()) > 0:
        events = await service.follower.read(run_id, after=last_id, wait_s=min(left, POLL_S))
        last_id = events[-1][0] if events else last_id
        if not events or any(event.type in LAST for _id, event in events):
            run = await _find(service, principal, run_id, user_id, texts=False)
    return await _find(service, principal, run_id, user_id)


@router.post("/{run_id}/cancel", status_code=202, responses=errors.responses(404, 422))
def cancel_run(
    run_id: deps.RunId,
    service: deps.ServiceDep,
    principal: deps.RunsWrite,
    _turn: deps.RunTurn,
    user_id: deps.ForUser = None,
) -> Run | schemas.RunReceipt:
    """Cancel a run: at once if it is queued or its worker is silent, else within a second. Its messages are kept."""
    run, dispatches = cancel.cancel(service.db, run_id, principal=principal, user_id=user_id)
    service.dispatcher.send(dispatches)
    return schemas.RunReceipt.of(run, principal)


@router.post("/{run_id}/retry", status_code=202, responses=schemas.COMMITTED | errors.responses(404, 409, 422))
def retry_run(
    run_id: deps.RunId,
    service: deps.ServiceDep,
    principal: deps.RunsWrite,
    _turn: deps.RunTurn,
    response: Response,
    user_id: deps.ForUser = None,
    idempotency_key: deps.IdempotencyKey = None,
) -> Run | schemas.RunReceipt:
    """Repeat a failed or cancelled run: a new run with the same input at the end of its session, with `retry_of`."""
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
    return schemas.RunReceipt.of(accepted.run, principal)


@router.get("/{run_id}/events", response_class=StreamingResponse, responses=sse.ANSWER | errors.responses(404, 422))
async def watch_run(
    run_id: deps.RunId,
    service: deps.ServiceDep,
    principal: deps.RunsRead,
    user_id: deps.ForUser = None,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Continue after this event.",
            examples=["1-5"],
            json_schema_extra={"pattern": r"^([0-9]+-[0-9]+)?$"},
        ),
    ] = None,
) -> StreamingResponse:
    """The run's events as they happen, as text/event-stream; the terminal event is the last one."""
    after = EventId.parse(last_event_id) if last_event_id else None
    run = await _find(service, principal, run_id, user_id, texts=False)
    if last_event_id and (after is None or after.fence > run.fence or after.n >= 2**64):
        raise InvalidEventId(value=last_event_id[:40])
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return LastingResponse(
        sse.follow(service, run, after=after),
        service.streams,
        principal,
        media_type="text/event-stream",
        headers=headers,
        resumable=True,
    )


@router.get("/{run_id}/why", responses=errors.responses(404, 422))
def why_run(
    run_id: deps.RunId, service: deps.ServiceDep, principal: deps.RunsRead, user_id: deps.ForUser = None
) -> schemas.Why:
    """Why the run is not moving: one sentence, and the facts behind it."""
    answer = why.why(service.db, service.dispatcher, service.settings, run_id, principal=principal, user_id=user_id)
    fields = asdict(answer)
    return schemas.Why(**fields.pop("facts"), **fields)


async def _find(
    service: deps.ServiceDep, principal: Principal, run_id: str, user_id: str | None, *, texts: bool = True
) -> Run:
    def read() -> Run | None:
        with service.db.read() as tx:
            run = runs.get(tx, run_id, principal=principal, user_id=user_id, texts=texts)
            return pending_calls.attached(tx, [run])[0] if run is not None and texts else run

    run = await service.threads.run(read)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return run
