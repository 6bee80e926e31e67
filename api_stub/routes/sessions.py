"""Sessions: their messages."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from api_stub import schemas
from api_stub.auth import Rooms, SessionsRead
from api_stub.cursors import Cursor, Cursors, Limit
from api_stub.errors import responses
from api_stub.routes.runs import ForUser
from worker.domain.message import Role
from worker.errors import AmbiguousSession, SessionNotFound
from worker.store import messages, sessions

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

MESSAGES: Cursors[int] = Cursors("messages", TypeAdapter(Annotated[int, Field(ge=1, lt=2**31)]))  # by seq


@router.get("/{session_id}/messages", responses=responses(403, 404, 409, 422))
def list_messages(
    session_id: Annotated[str, schemas.storable("session_id")],
    rooms: Rooms,
    asking: SessionsRead,
    user_id: ForUser = None,
    cursor: Cursor = None,
    limit: Limit = 50,
    role: Annotated[Literal["user", "assistant", "tool"] | None, Query(description="Only these.")] = None,
) -> schemas.MessagePage:
    """A session's history, oldest first."""
    after_seq = MESSAGES.read(cursor) or 0
    with rooms.db.read() as tx:
        found = sessions.find(tx, session_id=session_id, principal=asking, user_id=user_id)
        if not found:
            raise SessionNotFound(session_id=session_id)
        if len(found) > 1:
            raise AmbiguousSession(session_id=session_id)
        page = messages.page(
            tx, session_pk=found[0].pk, after_seq=after_seq, limit=limit + 1, role=Role(role) if role else None
        )
    more = MESSAGES.behind(page, lambda message: message.seq, limit=limit)
    return schemas.MessagePage(data=[schemas.Message.of(m) for m in page[:limit]], next_cursor=more)
