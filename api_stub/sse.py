"""A run's events as text/event-stream. The terminal event carries the run."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import TypeAdapter

from api_stub.service import Service
from worker.domain import EventId, Run
from worker.domain.event import EVENT_TYPES, TERMINAL
from worker.errors import DatabaseUnavailable
from worker.observe import logs, metrics
from worker.runs.watch import watch

log = logs.get(__name__)

_TYPES = " ".join(
    f"`{each.name}` ({'the run' if each.name in TERMINAL else ', '.join(each.fields)}): {each.description}"
    for each in EVENT_TYPES
)
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events, each with an id, a type and a JSON object. " + _TYPES,
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "itemSchema": {
                    "type": "object",
                    "required": ["id", "event", "data"],
                    "properties": {
                        "id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
                        "event": {"type": "string"},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                },
                "example": 'id: 0-1\nevent: run.queued\ndata: {"run_id": "run_019ab3…", "position": 1, …}\n\n',
            }
        },
    }
}
_RUN = TypeAdapter(Run)
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


async def follow(service: Service, run: Run, *, after: EventId | None) -> AsyncGenerator[str]:
    """Yield the events of *run* after *after*, the terminal event last; comments while nothing happens.

    Ends early if the database goes away: the reader reconnects and continues after its last event.
    """
    metrics.WATCHERS.inc()
    try:
        async with aclosing(watch(service.db, service.follower, service.unfinished, run, after=after)) as events:
            async for item in events:
                if item is None:
                    yield ": still here\n\n"
                    continue
                id, event, state = item
                data = _RUN.dump_python(state, mode="json") if event.type in TERMINAL else event.data
                yield _format(id, event.type, data)
    except DatabaseUnavailable as error:
        log.warning("stream ended early, to be resumed", run_id=run.id, session_id=run.session_id, error=error)
    finally:
        metrics.WATCHERS.dec()


def _format(id: EventId, type: str, data: dict[str, Any]) -> str:
    # Many clients split lines as Python's splitlines does: at these three characters too, which JSON need not escape.
    text = json.dumps(data, ensure_ascii=False).translate(_LINE_ENDS)
    return f"id: {id}\nevent: {type}\ndata: {text}\n\n"
