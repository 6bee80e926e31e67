"""Probes, which need no key and answer a status only, and metrics for Prometheus."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_stub import dependencies as deps
from api_stub import errors, schemas
from worker.errors import DatabaseUnavailable
from worker.observe.metrics import CONTENT_TYPE
from worker.queue.app import QUEUES
from worker.store import migrate, teams

router = APIRouter(tags=["health"])
METRICS = schemas.text_answer("text/plain", "Metrics, one sample a line.")


class Health(BaseModel):
    """That the process is alive."""

    status: Literal["ok"] = Field("ok", description="Always this.")


class Readiness(BaseModel):
    """Whether a run could be executed now, or what is missing."""

    status: str = Field(
        description="'ready', with the queues that no worker consumes; 'no database', 'no schema' (not migrated yet), "
        "'no broker' or 'no worker'.",
        examples=["ready", "ready; nobody consumes batch, summaries"],
    )


@router.get("/healthz")
async def healthz() -> Health:
    """Answers while the process is alive."""
    return Health()


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "A run would have to wait; `status` says for what."}},
)
def readyz(service: deps.ServiceDep, response: Response) -> Readiness:
    """Ready when the database and the broker answer, and a live worker consumes the queue `runs`."""
    status = _missing(service)
    response.status_code = 200 if status.startswith("ready") else 503
    return Readiness(status=status)


@router.get("/metrics", response_class=Response, responses=METRICS | errors.responses())
def metrics(service: deps.ServiceDep, _principal: deps.MetricsRead) -> Response:
    """Metrics of this process and of the installation. Needs a key with `runs:read`, bound to no user and no team."""
    return Response(service.installation_metrics.render(), media_type=CONTENT_TYPE)


def _missing(service: deps.ServiceDep) -> str:
    try:
        if migrate.misfit(service.db):
            return "no schema"
        with service.db.read() as tx:
            consumed = teams.live_workers(tx)
    except DatabaseUnavailable:
        return "no database"
    if service.dispatcher.depths() is None:
        return "no broker"
    if "runs" not in consumed:
        return "no worker"
    unconsumed = [queue for queue in QUEUES if queue not in consumed]
    return f"ready; nobody consumes {', '.join(unconsumed)}" if unconsumed else "ready"
