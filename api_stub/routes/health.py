"""Probes: the two paths that need no key, and say nothing but a status."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_stub.auth import ServiceDep
from api_stub.service import Service
from worker.errors import DatabaseUnavailable
from worker.queue.app import QUEUES
from worker.store import migrate, teams

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Whether the process lives."""

    status: Literal["ok"] = Field("ok", description="Always this.")


class Readiness(BaseModel):
    """Whether a run could be executed now, or the first thing that is missing."""

    status: str = Field(
        description="'ready', with the queues that nobody consumes; 'no database', 'no schema' (not migrated yet), "
        "'no broker' or 'no worker'.",
        examples=["ready", "ready; nobody consumes batch, summaries"],
    )


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A run would have to wait."}})
def readyz(service: ServiceDep, response: Response) -> Readiness:
    """A run could be executed: database and broker answer, and a live worker consumes the queue `runs`."""
    status = _missing(service)
    response.status_code = 200 if status.startswith("ready") else 503
    return Readiness(status=status)


def _missing(service: Service) -> str:
    try:
        if migrate.misfit(service.db):
            return "no schema"
        with service.db.read() as tx:
            consumed = teams.live_queues(tx)
    except DatabaseUnavailable:
        return "no database"
    if service.dispatcher.depths() is None:
        return "no broker"
    if "runs" not in consumed:
        return "no worker"
    left = [queue for queue in QUEUES if queue not in consumed]
    return f"ready; nobody consumes {', '.join(left)}" if left else "ready"
