"""Summaries of sessions: look, and ask for a new one."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api_stub.auth import ServiceDep, SessionsRead, SessionsWrite
from api_stub.errors import responses
from api_stub.parameters import ForUser, SessionId
from api_stub.routes.sessions import found_session
from api_stub.schemas import Time, field
from worker.domain import summary as domain
from worker.errors import SummaryNotFound
from worker.store import summaries, summary_jobs
from worker.summaries import due

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


class Refresh(BaseModel):
    """A refresh that a session waits for."""

    status: Literal["waiting", "running", "failed"] = field("'failed': until it is due again, or asked for.", "waiting")
    failures: int = field("Tries that failed, in a row.", 0)
    error_code: str | None = field("Why the last try failed.", "model_rate_limited", None)
    not_before: Time | None = Field(description="When the next try comes.")

    @classmethod
    def of(cls, refresh: domain.Refresh | None) -> "Refresh | None":
        return None if refresh is None else cls.model_validate(refresh, from_attributes=True)


class Summary(BaseModel):
    """One version of the condensed past of a session."""

    version: int = field("Counts from 1.", 2)
    text: str = field("What was said, condensed.", "The user waits for a parcel; a ticket is open.")
    topics: list[str] = field("What it is about.", ["parcel"])
    covers_through_seq: int = field("The seq of the last message that it covers.", 40)
    behind: int = field("Messages of the session that it does not cover.", 3)
    model: str = field("The model that made it.", "gpt-5-mini")
    created_at: Time = Field(description="When it was made.")
    refresh: Refresh | None = Field(description="The refresh that the session waits for; null: none.")


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
        found = summaries.get(tx, pk, version=version)
        refresh = Refresh.of(summary_jobs.standing(tx, pk))
    if found is None:
        raise SummaryNotFound(session_id=session_id)
    fields = {name: getattr(found, name) for name in Summary.model_fields if name != "refresh"}
    return Summary(**fields, refresh=refresh)


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
        refresh = Refresh.of(summary_jobs.standing(tx, session.pk))
    service.dispatcher.send(ready)
    return Requested(refresh=refresh)
