"""Probes: the two paths that need no key, and say nothing but a status."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_stub.auth import Rooms
from api_stub.service import Service
from worker.errors import DatabaseUnavailable
from worker.store import migrate, teams
from worker.store.ready import SILENT_S

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Whether the process lives."""

    status: Literal["ok"] = Field("ok", description="Always this.")


class Readiness(BaseModel):
    """Whether a run could be executed now, or the first thing that is missing."""

    status: Literal["ready", "no database", "no broker", "no worker"] = Field(description="What is missing, if any.")


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A run would have to wait."}})
def readyz(rooms: Rooms, response: Response) -> Readiness:
    """A run could be executed: database and broker answer, and a live worker consumes the queue `runs`."""
    status = _missing(rooms)
    response.status_code = 200 if status == "ready" else 503
    return Readiness(status=status)


def _missing(rooms: Service) -> Literal["ready", "no database", "no broker", "no worker"]:
    try:
        if not migrate.is_current(rooms.db):
            return "no database"
        with rooms.db.read() as tx:
            workers = teams.live_workers(tx, queue="runs", silent_s=SILENT_S)
    except DatabaseUnavailable:
        return "no database"
    if rooms.dispatcher.depths() is None:
        return "no broker"
    return "ready" if workers else "no worker"
