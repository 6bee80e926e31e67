"""All data of one user: export and erasure."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api_stub.dependencies import ServiceDep, SessionsRead, SessionsWrite, UserId
from api_stub.errors import responses
from worker import privacy
from worker.domain.fields import field

router = APIRouter(prefix="/v1/users", tags=["users"])

LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line; `type` is session, run, message, summary or batch_item.",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    }
}


class Erased(BaseModel):
    """How much was erased."""

    sessions: int = field("Sessions.", 3)
    runs: int = field("Runs.", 12)
    messages: int = field("Messages.", 40)
    summaries: int = field("Versions of summaries.", 2)
    streams: int = field("Streams of runs; an upper bound.", 1)
    api_keys: int = field("API keys that were bound to the user.", 1)


@router.get("/{user_id}/export", response_class=StreamingResponse, responses=LINES | responses(422))
def export_user(user_id: UserId, service: ServiceDep, principal: SessionsRead) -> StreamingResponse:
    """All data of a user as JSON lines: each session, then its runs, messages and summaries."""
    lines = privacy.export(service.db, user_id, principal=principal)
    first = next(lines, None)  # so that an error is raised before the answer starts
    objects = chain([first], lines) if first is not None else iter(())
    return StreamingResponse(_json_lines(objects), media_type="application/jsonl")


@router.delete("/{user_id}", responses=responses(422))
def erase_user(user_id: UserId, service: ServiceDep, principal: SessionsWrite) -> Erased:
    """Erase all data of a user, with the API keys that are bound to the user."""
    return Erased(**privacy.erase(service.db, service.eraser, service.settings, user_id, principal=principal))


def _json_lines(objects: Iterator[dict[str, Any]]) -> Iterator[str]:
    for line in objects:
        yield json.dumps(line, ensure_ascii=False) + "\n"
