"""Sessions: list, get, change, delete; their messages, runs and summaries."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from api_stub import dependencies as deps
from api_stub import errors, pagination, schemas
from api_stub.memory import BoundedRoute, ReadsLarge
from api_stub.routes.runs import RUNS
from worker.domain import Message, Principal, Role, SessionRow, Summary
from worker.errors import AmbiguousSession, SessionNotFound, SummaryNotFound
from worker.store import Transaction, erasure, messages, runs, sessions, summaries, summary_jobs
from worker.summaries import due

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=BoundedRoute)

_Pk = Annotated[int, Field(ge=1, lt=2**63)]
_Activity = tuple[AwareDatetime, _Pk]
SESSIONS = pagination.Pages[tuple[int, SessionRow], tuple[datetime, int]](
    "sessions", _Activity, lambda r: (r[1].updated_at, r[0])
)
MESSAGES = pagination.Pages[Message, int](
    "messages", Annotated[int, Field(ge=1, lt=2**31)], lambda message: message.seq
)


@router.get("", responses=errors.responses(422))
def list_sessions(
    service: deps.ServiceDep,
    principal: deps.SessionsRead,
    team: deps.OfTeam = None,
    user_id: deps.ForUser = None,
    name: deps.ByName = None,
    tag: deps.ByTag = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.SessionPage:
    """Sessions, latest activity first. A session that becomes active while you page moves to the front."""
    if team is not None:
        principal.check_team(team)
    filters, before = sessions.SessionFilters(user_id, team, name, tag), SESSIONS.decode(cursor)
    with service.db.read() as tx:
        rows = sessions.active(tx, filters, principal=principal, before=before, limit=limit)
    data = [schemas.Session.model_validate(row) for _pk, row in rows]
    return schemas.SessionPage(data=data, next_cursor=SESSIONS.next_cursor(rows))


@router.get("/{session_id}", responses=errors.responses(404, 409, 422))
def get_session(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsRead,
    user_id: deps.ForUser = None,
    _place: ReadsLarge = None,
) -> schemas.Session:
    """One session."""
    with service.db.read() as tx:
        return _session(tx, _find(tx, session_id, principal, user_id).pk, session_id)


@router.patch("/{session_id}", responses=errors.responses(400, 404, 409, 413, 422))
def change_session(
    session_id: deps.SessionId,
    body: schemas.SessionChange,
    service: deps.ServiceDep,
    principal: deps.SessionsWrite,
    _turn: deps.SessionTurn,
    user_id: deps.ForUser = None,
    _place: ReadsLarge = None,
) -> schemas.Session:
    """Replace the fields that are sent, and return the session."""
    values = body.values()
    with service.db.write() as tx:
        pk = _find(tx, session_id, principal, user_id).pk
        if values and sessions.lock(tx, pk):
            sessions.change(tx, pk, values)
        return _session(tx, pk, session_id)


@router.delete("/{session_id}", status_code=204, responses=errors.responses(404, 409, 422))
def delete_session(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsWrite,
    _turn: deps.SessionTurn,
    user_id: deps.ForUser = None,
) -> None:
    """Erase a session with its messages, runs and streams, at once. A running run ends at its next write."""
    with service.db.write() as tx:
        pk = _find(tx, session_id, principal, user_id).pk
        streaming = erasure.erase_session(tx, pk, streams_s=service.settings.stream_seconds).streaming
    service.eraser.erase(streaming)


@router.get("/{session_id}/messages", responses=errors.responses(404, 409, 422))
def list_messages(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsRead,
    user_id: deps.ForUser = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    role: Annotated[Literal["user", "assistant", "tool"] | None, Query(description="Only this role.")] = None,
    _place: ReadsLarge = None,
) -> schemas.MessagePage:
    """The messages of a session, oldest first."""
    after_seq = MESSAGES.decode(cursor) or 0
    with service.db.read() as tx:
        pk = _find(tx, session_id, principal, user_id).pk
        only = Role(role) if role else None
        rows = messages.page(tx, session_pk=pk, after_seq=after_seq, limit=limit, role=only)
    return schemas.MessagePage(data=rows, next_cursor=MESSAGES.next_cursor(rows))


@router.get("/{session_id}/runs", responses=errors.responses(404, 409, 422))
def list_runs_of_session(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsRead,
    user_id: deps.ForUser = None,
    cursor: pagination.Cursor = None,
    limit: pagination.Limit = 50,
    _place: ReadsLarge = None,
) -> schemas.RunPage:
    """The runs of a session, newest first."""
    before = RUNS.decode(cursor)
    with service.db.read() as tx:
        owner = _find(tx, session_id, principal, user_id).user_id
        filters = runs.RunFilters(owner, session_id=session_id)
        rows = runs.page(tx, filters, principal=principal, before=before, limit=limit)
    return schemas.RunPage(data=rows, next_cursor=RUNS.next_cursor(rows))


@router.get("/{session_id}/summary", responses=errors.responses(404, 409, 422))
def get_summary(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsRead,
    user_id: deps.ForUser = None,
    version: Annotated[
        int | None, Query(ge=1, lt=2**31, description="An older version; if omitted, the current one.", examples=[1])
    ] = None,
) -> Summary:
    """The summary of a session."""
    with service.db.read() as tx:
        pk = _find(tx, session_id, principal, user_id).pk
        summary = summaries.get(tx, pk, version=version)
        refresh = summary_jobs.state(tx, pk)
    if summary is None:
        raise SummaryNotFound(session_id=session_id)
    return replace(summary, refresh=refresh)


@router.post("/{session_id}/summary", status_code=202, responses=errors.responses(404, 409, 422))
def refresh_summary(
    session_id: deps.SessionId,
    service: deps.ServiceDep,
    principal: deps.SessionsWrite,
    _turn: deps.SessionTurn,
    user_id: deps.ForUser = None,
    rebuild: Annotated[bool, Query(description="Start over from the first message.", examples=[True])] = False,
) -> schemas.Requested:
    """Refresh the summary now, whether it is due or not. Requests that come before it is done share one refresh."""
    with service.db.write() as tx:
        session = _find(tx, session_id, principal, user_id)
        dispatches = due.request(tx, session.pk, session_id=session_id, team=session.team_id, rebuild=rebuild)
        refresh = summary_jobs.state(tx, session.pk)
    service.dispatcher.send(dispatches)
    return schemas.Requested(refresh=refresh)


def _find(tx: Transaction, session_id: str, principal: Principal, user_id: str | None) -> Any:
    """Return pk, user and team of the only session with this id that the key may see.

    Raises:
        SessionNotFound, AmbiguousSession, UserForbidden
    """
    rows = sessions.find(tx, session_id=session_id, principal=principal, user_id=user_id)
    if not rows:
        raise SessionNotFound(session_id=session_id)
    if len(rows) > 1:
        raise AmbiguousSession(session_id=session_id)
    return rows[0]


def _session(tx: Transaction, pk: int, session_id: str) -> schemas.Session:
    row = sessions.get(tx, pk)
    if row is None:
        raise SessionNotFound(session_id=session_id)
    return schemas.Session.model_validate(row)
