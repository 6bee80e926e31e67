"""A run's events as the API sends them, for tests of those who read them."""

import json

from api_stub.client import Event

EVENTS = [
    Event("0-1", "run.queued", {"run_id": "r", "session_id": "s", "team": "t", "position": 1}),
    Event("1-1", "run.started", {"run_id": "r", "attempt": 1}),
    Event("1-2", "message.delta", {"message_id": "1-1", "author": "t", "delegation": None, "delta": "Grüße, "}),
    Event("1-9", "message.delta", {"message_id": "1-1", "author": "t", "delegation": None, "delta": "🦉\r\n\n"}),
    Event("1-10", "message.completed", {"message_id": "1-1", "seq": 2, "content": "Grüße, 🦉\r\n\n"}),
    Event("2-0", "run.completed", {"id": "r", "status": "completed"}),
]


def spelled(events: list[Event]) -> bytes:
    """Return events as an event stream, with a comment before each."""
    return b"".join(
        f": still here\n\nid: {e.id}\nevent: {e.type}\ndata: {json.dumps(e.data, ensure_ascii=False)}\n\n".encode()
        for e in events
    )


def behind(last_id: str | None) -> bytes:
    """Return the stream behind an event, as the API gives it to who resumes there."""
    place = [e.id for e in EVENTS].index(last_id) + 1 if last_id else 0
    return spelled(EVENTS[place:])
