"""How a server is asked for an answer that fits a schema: by the schema, for any JSON object, or only in words.

What a server refuses is remembered for an hour, per address and model: servers are upgraded.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Any

from worker import clock
from worker.domain import ChatMessage, ChatRequest, schemas

Server = tuple[str | None, str]  # base_url and id of the model
REMEMBERED_S = 3600.0
IN_WORDS = "Answer with JSON that fits this schema, and with nothing else:\n{schema}"


class SchemaForm(StrEnum):
    """A way to ask, the most exact one first."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    PROMPT = "prompt"


_refused: dict[tuple[Server, SchemaForm], float] = {}


def forms(request: ChatRequest, wanted: str, server: Server) -> Iterator[SchemaForm]:
    """Yield the forms to try for *request*, in order. *wanted*: the only one, or 'auto'."""
    if wanted != "auto":
        yield SchemaForm(wanted)
        return
    ordered = [SchemaForm.JSON_SCHEMA, SchemaForm.PROMPT] if request.describes_answer else [*SchemaForm]
    now = clock.monotonic()
    for form in ordered:
        known_at = _refused.get((server, form))
        if form is SchemaForm.PROMPT or known_at is None or now - known_at > REMEMBERED_S:
            yield form


def refused(server: Server, form: SchemaForm) -> None:
    """Remember that a server refuses a form."""
    _refused[server, form] = clock.monotonic()


def asked(request: ChatRequest, form: SchemaForm) -> ChatRequest:
    """Return the request with the schema in words, if the form needs them and its messages do not have them."""
    if form is SchemaForm.JSON_SCHEMA or request.describes_answer:
        return request
    text = IN_WORDS.format(schema=json.dumps(request.answer_schema, ensure_ascii=False))
    return replace(request, messages=(*request.messages, ChatMessage("system", text)))


def response_format(request: ChatRequest, form: SchemaForm | None) -> dict[str, Any]:
    """Return the part of a request's body that asks for the answer in this form."""
    if form is SchemaForm.JSON_OBJECT:
        return {"response_format": {"type": "json_object"}}
    if form is not SchemaForm.JSON_SCHEMA:
        return {}
    is_strict = schemas.is_strict(request.answer_schema)
    schema = {"name": request.answer_name, "schema": request.answer_schema, "strict": is_strict}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
