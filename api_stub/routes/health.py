"""Probes: the two paths that need no key, and say nothing but a status."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api_stub.auth import Rooms
from worker.errors import DatabaseUnavailable
from worker.runs.presence import SILENT_S
from worker.store import migrate, teams

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Whether the process lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether a run could be executed, and what is missing if not."""

    status: Literal["ready", "not ready"]
    database: bool
    broker: bool
    workers: bool


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
def readyz(rooms: Rooms, response: Response) -> Readiness:
    """A run could be executed: database and broker answer, and a live worker consumes the queue `runs`."""
    try:
        database = migrate.is_current(rooms.db)
        with rooms.db.read() as tx:
            workers = database and teams.live_workers(tx, queue="runs", silent_s=SILENT_S) > 0
    except DatabaseUnavailable:
        database = workers = False
    broker = rooms.dispatcher.depths() is not None
    ready = database and broker and workers
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not ready", database=database, broker=broker, workers=workers)
