"""Summaries of sessions: look, and ask for a new one."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api_stub.auth import ServiceDep, SessionsRead, SessionsWrite
from api_stub.errors import responses
from api_stub.parameters import ForUser, SessionId
from api_stub.routes.sessions import found_session
from worker.domain.summary import Refresh, Summary
from worker.errors import SummaryNotFound
from worker.store import summaries, summary_jobs
from worker.summaries import due

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


class Requested(BaseModel):
    """What became of a request for a refresh."""

    refresh: Refresh | None = Field(description="The refresh; null: the summary covers everything that has ended.")


@router.get("/{session_id}/summary", responses=responses(404, 409, 422))
def get_summary(
    session_id: SessionId,
    service: ServiceDep,
    principal: SessionsRead,
    user_id: ForUser = None,
    version: Annotated[
        int | None, Query(ge=1, lt=2**31, description="An older version; without, the current one.", examples=[1])
    ] = None,
) -> Summary:
    """A session's summary."""
    with service.db.read() as tx:
        pk = found_session(tx, session_id, principal, user_id).pk
        summary = summaries.get(tx, pk, version=version)
        refresh = summary_jobs.state(tx, pk)
    if summary is None:
        raise SummaryNotFound(session_id=session_id)
    return replace(summary, refresh=refresh)


@router.post("/{session_id}/summary", status_code=202, responses=responses(404, 409, 422))
def refresh_summary(
    session_id: SessionId,
    service: ServiceDep,
    principal: SessionsWrite,
    user_id: ForUser = None,
    rebuild: Annotated[bool, Query(description="Make it anew, from the first message.", examples=[True])] = False,
) -> Requested:
    """Refresh the summary now, whether it is due or not. Any number of requests are one refresh."""
    with service.db.write() as tx:
        session = found_session(tx, session_id, principal, user_id)
        ready = due.request(tx, session.pk, session_id=session_id, team=session.team_id, rebuild=rebuild)
        refresh = summary_jobs.state(tx, session.pk)
    service.dispatcher.send(ready)
    return Requested(refresh=refresh)
