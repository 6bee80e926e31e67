"""Sessions: list, look, change, delete; their messages and runs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field, TypeAdapter

from api_stub import schemas
from api_stub.auth import ServiceDep, SessionsRead, SessionsWrite
from api_stub.cursors import Cursors
from api_stub.errors import responses
from api_stub.parameters import Cursor, ForUser, Limit, OfTeam, SessionId
from api_stub.routes.runs import RUNS
from worker.domain.fields import TEXT
from worker.domain.message import Role
from worker.domain.principal import Principal
from worker.errors import AmbiguousSession, SessionNotFound
from worker.store import messages, run_pages, session_pages, sessions
from worker.store.engine import Transaction

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

_Pk = Annotated[int, Field(ge=1, lt=2**63)]
SESSIONS: Cursors[tuple[datetime, int]] = Cursors("sessions", TypeAdapter(tuple[AwareDatetime, _Pk]))  # by activity
MESSAGES: Cursors[int] = Cursors("messages", TypeAdapter(Annotated[int, Field(ge=1, lt=2**31)]))  # by seq


@router.get("", responses=responses(422))
def list_sessions(
    service: ServiceDep,
    principal: SessionsRead,
    team: OfTeam = None,
    user_id: ForUser = None,
    name: Annotated[
        str | None,
        Query(
            description="Only those of exactly this name.",
            examples=["Where is my parcel?"],
            json_schema_extra=TEXT,
        ),
        schemas.storable("name"),
    ] = None,
    tag: Annotated[
        str | None,
        Query(description="Only those with this tag.", examples=["urgent"], json_schema_extra=TEXT),
        schemas.storable("tag"),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schemas.SessionPage:
    """Sessions, latest activity first. One that becomes active meanwhile moves in front of the first page."""
    if team is not None:
        principal.check_team(team)
    wanted, before = session_pages.SessionFilters(user_id, team, name, tag), SESSIONS.read(cursor)
    with service.db.read() as tx:
        found = session_pages.active(tx, wanted, principal=principal, before=before, limit=limit + 1)
    more = SESSIONS.behind(found, lambda one: (one[1].updated_at, one[0]), limit=limit)
    return schemas.SessionPage(data=[schemas.Session.of(row) for _pk, row in found[:limit]], next_cursor=more)


@router.get("/{session_id}", responses=responses(404, 409, 422))
def get_session(
    session_id: SessionId, service: ServiceDep, principal: SessionsRead, user_id: ForUser = None
) -> schemas.Session:
    """One session."""
    with service.db.read() as tx:
        row = sessions.get(tx, found_session(tx, session_id, principal, user_id).pk)
    if row is None:
        raise SessionNotFound(session_id=session_id)
    return schemas.Session.of(row)


@router.patch("/{session_id}", responses=responses(400, 404, 409, 413, 422))
def change_session(
    session_id: SessionId,
    body: schemas.SessionChange,
    service: ServiceDep,
    principal: SessionsWrite,
    user_id: ForUser = None,
) -> schemas.Session:
    """Replace the fields that are given, and return the session."""
    values = body.values()
    with service.db.write() as tx:
        pk = found_session(tx, session_id, principal, user_id).pk
        if values and sessions.lock(tx, pk):
            sessions.change(tx, pk, values)
        row = sessions.get(tx, pk)
    if row is None:
        raise SessionNotFound(session_id=session_id)
    return schemas.Session.of(row)


@router.delete("/{session_id}", status_code=204, responses=responses(404, 409, 422))
def delete_session(
    session_id: SessionId, service: ServiceDep, principal: SessionsWrite, user_id: ForUser = None
) -> None:
    """Erase a session with its messages, its runs and their streams, at once. A run of it ends at its next write."""
    with service.db.write() as tx:
        pk = found_session(tx, session_id, principal, user_id).pk
        streaming = sessions.erase(tx, pk, streams_s=service.settings.stream_seconds)
    service.eraser.erase(streaming)


@router.get("/{session_id}/messages", responses=responses(404, 409, 422))
def list_messages(
    session_id: SessionId,
    service: ServiceDep,
    principal: SessionsRead,
    user_id: ForUser = None,
    cursor: Cursor = None,
    limit: Limit = 50,
    role: Annotated[Literal["user", "assistant", "tool"] | None, Query(description="Only these.")] = None,
) -> schemas.MessagePage:
    """A session's history, oldest first."""
    after_seq = MESSAGES.read(cursor) or 0
    with service.db.read() as tx:
        pk = found_session(tx, session_id, principal, user_id).pk
        only = Role(role) if role else None
        page = messages.page(tx, session_pk=pk, after_seq=after_seq, limit=limit + 1, role=only)
    more = MESSAGES.behind(page, lambda message: message.seq, limit=limit)
    return schemas.MessagePage(data=page[:limit], next_cursor=more)


@router.get("/{session_id}/runs", responses=responses(404, 409, 422))
def list_runs_of_session(
    session_id: SessionId,
    service: ServiceDep,
    principal: SessionsRead,
    user_id: ForUser = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schemas.RunPage:
    """A session's runs, newest first."""
    before = RUNS.read(cursor)
    with service.db.read() as tx:
        wanted = run_pages.RunFilters(found_session(tx, session_id, principal, user_id).user_id, session_id=session_id)
        found = run_pages.page(tx, wanted, principal=principal, before=before, limit=limit + 1)
    more = RUNS.behind(found, lambda run: run.id, limit=limit)
    return schemas.RunPage(data=found[:limit], next_cursor=more)


def found_session(tx: Transaction, session_id: str, principal: Principal, user_id: str | None) -> Any:
    """Return pk, user and team of the one session of this id that a key may see.

    Raises:
        SessionNotFound, AmbiguousSession, UserForbidden
    """
    found = sessions.find(tx, session_id=session_id, principal=principal, user_id=user_id)
    if not found:
        raise SessionNotFound(session_id=session_id)
    if len(found) > 1:
        raise AmbiguousSession(session_id=session_id)
    return found[0]
