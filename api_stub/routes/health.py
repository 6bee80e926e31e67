"""Probes, which need no key, and metrics for Prometheus."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_stub import dependencies as deps
from api_stub import errors, schemas
from worker.domain import Problem
from worker.observe.metrics import CONTENT_TYPE
from worker.queue.app import QUEUES
from worker.store import database_probe, migrate, teams

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
        examples=["ready", "ready; no worker consumes batch, summaries"],
    )
    detail: str | None = Field(
        None,
        description="What is wrong with the database or the broker, and what to do, in the words of 'doctor'.",
        examples=["No server listens at its address. Start it."],
    )


@router.get("/healthz")
async def healthz() -> Health:
    """Answers while the process is alive."""
    return Health()


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    responses={503: {"model": Readiness, "description": "A run would have to wait; `status` says for what."}},
)
def readyz(service: deps.ServiceDep, response: Response) -> Readiness:
    """Ready when database and broker do what a worker needs, and a live worker consumes the queue `runs`."""
    readiness = _readiness(service)
    response.status_code = 200 if readiness.status.startswith("ready") else 503
    return readiness


@router.get("/metrics", response_class=Response, responses=METRICS | errors.responses())
def metrics(service: deps.ServiceDep, _principal: deps.MetricsRead) -> Response:
    """Metrics of this process and of the installation. Needs a key with `runs:read`, bound to no user and no team."""
    return Response(service.installation_metrics.render(), media_type=CONTENT_TYPE)


def _readiness(service: deps.ServiceDep) -> Readiness:
    try:
        if problem := database_probe.unsuitable(service.db):
            return _lacking("no database", problem)
        if misfit := migrate.misfit(service.db):
            return Readiness(status="no schema", detail=misfit)
        if problem := database_probe.forbidden(service.db):
            return _lacking("no database", problem)
        with service.db.read() as tx:
            consumed = teams.live_workers(tx)
    except database_probe.REFUSALS as error:
        return _lacking("no database", database_probe.problem(error))
    if problem := service.broker.problem():
        return _lacking("no broker", problem)
    if "runs" not in consumed:
        return Readiness(status="no worker")
    unconsumed = [queue for queue in QUEUES if queue not in consumed]
    return Readiness(status=f"ready; no worker consumes {', '.join(unconsumed)}" if unconsumed else "ready")


def _lacking(status: str, problem: Problem) -> Readiness:
    return Readiness(status=status, detail=f"{problem.sentence} {problem.advice}")
