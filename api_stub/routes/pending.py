"""Pending calls: list those that wait for a decision, decide about them, and read what was decided."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from api_stub import dependencies as deps
from api_stub import errors, pagination, schemas
from api_stub.memory import BoundedRoute, ReadsLarge
from worker.domain import PendingCall, PendingKind, Run
from worker.domain.pending import DecidedBy
from worker.errors import RunNotFound
from worker.runs import decide
from worker.store import pending_calls, runs

router = APIRouter(prefix="/v1", tags=["pending calls"], route_class=BoundedRoute)
PENDING = pagination.Pages[PendingCall, tuple[datetime, str]](
    "pending", tuple[datetime, str], lambda call: (call.created_at, call.id)
)


@router.get("/pending", responses=errors.responses(422))
def list_pending_calls(
    service: deps.ServiceDep,
    principal: deps.RunsRead,
    kind: Annotated[PendingKind | None, Query(description="Only calls of this kind.")] = None,
    decided_by: Annotated[DecidedBy | None, Query(description="Only calls that these decide about.")] = None,
    run_id: deps.OfRun = None,
    team: deps.OfTeam = None,
    user_id: deps.ForUser = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.PendingPage:
    """Calls that wait for a decision, oldest first."""
    if team is not None:
        principal.check_team(team)
    filters = pending_calls.PendingFilters(team, user_id, run_id, kind, decided_by)
    after = PENDING.decode(cursor)
    with service.db.read() as tx:
        rows = pending_calls.page(tx, filters, principal=principal, after=after, limit=limit)
    return schemas.PendingPage(data=rows, next_cursor=PENDING.next_cursor(rows))


@router.get("/runs/{run_id}/decisions", tags=["runs"], responses=errors.responses(404, 422))
def list_decisions(
    run_id: deps.RunId,
    service: deps.ServiceDep,
    principal: deps.RunsRead,
    user_id: deps.ForUser = None,
    _place: ReadsLarge = None,
) -> schemas.Decisions:
    """All calls of the run that asked for a decision, with what was decided, when, and by which key."""
    with service.db.read() as tx:
        if runs.get(tx, run_id, principal=principal, user_id=user_id, texts=False) is None:
            raise RunNotFound(run_id=run_id)
        return schemas.Decisions(data=pending_calls.of_run(tx, run_id))


@router.post("/runs/{run_id}/continue", tags=["runs"], status_code=202, responses=errors.responses(404, 409, 413, 422))
def continue_run(
    run_id: deps.RunId,
    body: schemas.ContinueRequest,
    service: deps.ServiceDep,
    principal: deps.RunsWrite,
    _turn: deps.RunTurn,
    user_id: deps.ForUser = None,
) -> Run | schemas.RunReceipt:
    """Decide about calls of a run: all of the decisions count, or none. The run goes on at once with what is decided.

    The same decision again changes nothing. Calls that only an operator decides about need the scope `approvals`.
    """
    run, dispatches = decide.decide(
        service.db, run_id, body.decisions, principal=principal, user_id=user_id, approver=body.approver
    )
    service.dispatcher.send(dispatches)
    return schemas.RunReceipt.of(run, principal)
