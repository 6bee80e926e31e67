"""Why a run is not moving."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from api_stub.auth import RunsRead, ServiceDep
from api_stub.errors import responses
from api_stub.parameters import ForUser, RunId
from worker.domain.fields import field
from worker.domain.run import Status
from worker.runs import why

router = APIRouter(prefix="/v1/runs", tags=["runs"])


class Why(BaseModel):
    """Why a run is not moving. Beside these fields, the facts that the reason rests on."""

    model_config = ConfigDict(extra="allow")

    run_id: str = field("The run.", "run_019ab3c4d5e6f708192a3b4c5d6e7f80")
    status: Status = field("Its status.", "queued")
    reason: str = field("Stable.", "behind_run")
    detail: str = field("One sentence.", "It is behind run 'run_019…': the runs of a session execute one by one.")


@router.get("/{run_id}/why", responses=responses(404, 422))
def why_run(run_id: RunId, service: ServiceDep, principal: RunsRead, user_id: ForUser = None) -> Why:
    """Why the run is not moving: one sentence, and the facts."""
    found = why.why(service.db, service.dispatcher, service.settings, run_id, principal=principal, user_id=user_id)
    facts = {name: value for name, value in asdict(found).items() if name != "facts"}
    return Why(**facts, **found.facts)
