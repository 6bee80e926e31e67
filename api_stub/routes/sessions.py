"""Sessions: their messages."""

import base64
import binascii
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from api_stub import schemas
from api_stub.auth import Rooms, SessionsRead
from api_stub.errors import responses
from api_stub.routes.runs import ForUser
from worker.domain.message import Role
from worker.errors import AmbiguousSession, InvalidCursor, SessionNotFound
from worker.store import messages, sessions

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


@router.get("/{session_id}/messages", responses=responses(403, 404, 409, 422))
def list_messages(
    session_id: Annotated[str, schemas.storable("session_id")],
    rooms: Rooms,
    asking: SessionsRead,
    user_id: ForUser = None,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    role: Annotated[Literal["user", "assistant", "tool"] | None, Query(description="Only these.")] = None,
) -> schemas.MessagePage:
    """A session's history, oldest first."""
    after_seq = _read_cursor(cursor)
    with rooms.db.read() as tx:
        found = sessions.find(tx, session_id=session_id, principal=asking, user_id=user_id)
        if not found:
            raise SessionNotFound(session_id=session_id)
        if len(found) > 1:
            raise AmbiguousSession(session_id=session_id)
        page = messages.page(
            tx, session_pk=found[0].pk, after_seq=after_seq, limit=limit + 1, role=Role(role) if role else None
        )
    more = page[limit - 1].seq if len(page) > limit else None
    return schemas.MessagePage(
        data=[schemas.Message.of(m) for m in page[:limit]], next_cursor=None if more is None else _cursor(more)
    )


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(f"s{seq}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text.startswith("s") and text[1:].isdecimal() and (seq := int(text[1:])) < 2**31:
            return seq
    except (binascii.Error, ValueError):
        pass
    raise InvalidCursor()
