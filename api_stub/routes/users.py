"""All data of one user: export and erasure."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api_stub import dependencies as deps
from api_stub import errors, schemas
from api_stub.streams import LastingResponse
from worker import privacy

router = APIRouter(prefix="/v1/users", tags=["users"])

LINES = schemas.text_answer(
    "application/jsonl",
    "One JSON object a line; `type` is session, run, message, summary, batch_item, idempotency_key, batch or api_key.",
)


@router.get("/{user_id}/export", response_class=StreamingResponse, responses=LINES | errors.responses(422))
def export_user(user_id: deps.UserId, service: deps.ServiceDep, principal: deps.SessionsRead) -> StreamingResponse:
    """All data of a user as JSON lines: each session with its runs, messages and summaries, then what is in none."""
    lines = privacy.export(service.db, user_id, principal=principal)
    first = next(lines, None)  # so that an error is raised before the answer starts
    objects = chain([first], lines) if first is not None else iter(())
    return LastingResponse(_json_lines(objects), service.streams, principal, media_type="application/jsonl")


@router.delete("/{user_id}", responses=errors.responses(422))
def erase_user(user_id: deps.UserId, service: deps.ServiceDep, principal: deps.SessionsWrite) -> privacy.Erased:
    """Erase all data of a user, with the API keys that are bound to the user."""
    return privacy.erase(service.db, service.eraser, service.settings, user_id, principal=principal)


def _json_lines(objects: Iterator[dict[str, Any]]) -> Iterator[str]:
    for line in objects:
        yield json.dumps(line, ensure_ascii=False) + "\n"
