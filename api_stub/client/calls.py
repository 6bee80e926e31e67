"""Everything that the API can be asked for, once: `Client` and `AsyncClient` have these functions as methods.

A function sends nothing. It returns what is to be sent: a `Request`, a `Waiting`, a `Listing` or a `Reading`; the
clients carry that out, and their methods return what it came to.

Wherever there is a `user_id`, a service key names with it the user that it acts for; a user's own key leaves it out.
"""

import re
import uuid
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from api_stub.client.core import KEY, Listing, Request, Waiting
from api_stub.client.streams import Lines, Watch
from api_stub.client.types import Erased, Keep, Message, Requested, Run, Session, Status, Summary, Team, Why

PAGE = 200  # the most that the API gives at once
CONTROL = re.compile("[\x00-\x1f\x7f]")


def enqueue(
    team: str,
    input: str,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    on_busy: Literal["enqueue", "reject", "interrupt", "rollback", "coalesce"] | None = None,
    priority: Literal["interactive", "background"] | None = None,
    not_before: datetime | None = None,
    timeout_s: float | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Request[Run]:
    """Enqueue a run and return it: it is committed.

    Without a *session_id* it opens a new session. It is sent again until it is answered, under one key, so that it
    makes one run; with an *idempotency_key* of your own, that holds over restarts of your program too.

    Raises:
        RequestFailed, Unreachable: both carry the `idempotency_key`, to be sure with.
    """
    body = _given(
        team=team,
        input=input,
        session_id=session_id,
        user_id=user_id,
        on_busy=on_busy,
        priority=priority,
        not_before=None if not_before is None else _time(not_before),
        timeout=timeout_s,
        metadata=metadata,
    )
    return Request("POST", _path("runs"), body=body, headers=_key(idempotency_key))


def run(run_id: str, *, wait_s: float = 0, user_id: str | None = None) -> Waiting:
    """Return a run as it is; with *wait_s* as soon as it has ended, and as it is after so many seconds."""
    return Waiting(_about_run(run_id, user_id), wait_s=wait_s)


def wait(run_id: str, *, timeout_s: float | None = None, user_id: str | None = None) -> Waiting:
    """Return a run once it has ended, or is paused.

    Raises:
        TimeoutError: it has not within *timeout_s* seconds. The run goes on.
    """
    return Waiting(_about_run(run_id, user_id), wait_s=timeout_s, strict=True)


def stream(run_id: str, *, after: str | None = None, user_id: str | None = None) -> Watch:
    """Yield a run's events as they happen, up to the terminal one, whatever becomes of the connection.

    *after* is the id of an event: those behind it are yielded.
    """
    return Watch(Request("GET", _path("runs", run_id, "events"), _query(user_id=user_id)), after=after)


def cancel(run_id: str, *, user_id: str | None = None) -> Request[Run]:
    """Ask for the end of a run, and return it as it is now. What it wrote is kept."""
    return Request("POST", _path("runs", run_id, "cancel"), _query(user_id=user_id))


def retry(run_id: str, *, user_id: str | None = None, idempotency_key: str | None = None) -> Request[Run]:
    """Enqueue a failed or cancelled run again, and return the new one: it stands at the end of its session."""
    return Request("POST", _path("runs", run_id, "retry"), _query(user_id=user_id), _key(idempotency_key))


def why(run_id: str, *, user_id: str | None = None) -> Request[Why]:
    """Say why a run is not moving."""
    return Request("GET", _path("runs", run_id, "why"), _query(user_id=user_id))


def runs(
    *,
    status: Status | None = None,
    team: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    idempotency_key: str | None = None,
) -> Listing[Run]:
    """Yield runs, the newest first, page by page."""
    query = _query(status=status, team=team, user_id=user_id, session_id=session_id, idempotency_key=idempotency_key)
    return Listing(Request("GET", _path("runs"), {**query, "limit": str(PAGE)}))


def sessions(
    *, user_id: str | None = None, team: str | None = None, name: str | None = None, tag: str | None = None
) -> Listing[Session]:
    """Yield sessions, the one with the latest activity first, page by page."""
    query = _query(user_id=user_id, team=team, name=name, tag=tag)
    return Listing(Request("GET", _path("sessions"), {**query, "limit": str(PAGE)}))


def session(session_id: str, *, user_id: str | None = None) -> Request[Session]:
    """Return a session."""
    return Request("GET", _path("sessions", session_id), _query(user_id=user_id))


def update_session(
    session_id: str,
    *,
    name: str | Keep | None = Keep.KEEP,
    description: str | Keep | None = Keep.KEEP,
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    user_id: str | None = None,
) -> Request[Session]:
    """Replace what is given, leave the rest, and return the session. None removes a name or a description."""
    people = {"name": name, "description": description}
    body = {field: value for field, value in people.items() if value is not Keep.KEEP}
    body |= _given(tags=tags, metadata=metadata)
    return Request("PATCH", _path("sessions", session_id), _query(user_id=user_id), body=body)


def delete_session(session_id: str, *, user_id: str | None = None) -> Request[None]:
    """Delete a session with everything in it."""
    return Request("DELETE", _path("sessions", session_id), _query(user_id=user_id))


def messages(
    session_id: str, *, role: Literal["user", "assistant", "tool"] | None = None, user_id: str | None = None
) -> Listing[Message]:
    """Yield the messages of a session, oldest first, page by page; those of one *role* only."""
    query = _query(role=role, user_id=user_id)
    return Listing(Request("GET", _path("sessions", session_id, "messages"), {**query, "limit": str(PAGE)}))


def session_runs(session_id: str, *, user_id: str | None = None) -> Listing[Run]:
    """Yield the runs of a session, the newest first, page by page."""
    query = _query(user_id=user_id)
    return Listing(Request("GET", _path("sessions", session_id, "runs"), {**query, "limit": str(PAGE)}))


def summary(session_id: str, *, version: int | None = None, user_id: str | None = None) -> Request[Summary]:
    """Return a session's summary, or an older *version* of it."""
    query = _query(version=None if version is None else str(version), user_id=user_id)
    return Request("GET", _path("sessions", session_id, "summary"), query)


def refresh_summary(session_id: str, *, rebuild: bool = False, user_id: str | None = None) -> Request[Requested]:
    """Have a session's summary refreshed now, and not when it is due; with *rebuild* from the first message on."""
    query = _query(rebuild="true" if rebuild else None, user_id=user_id)
    return Request("POST", _path("sessions", session_id, "summary"), query)


def teams() -> Listing[Team]:
    """Yield the teams that live workers serve, by id."""
    return Listing(Request("GET", _path("teams")))


def export_user(user_id: str) -> Lines:
    """Yield everything that is kept of a user, one object after the other.

    Raises:
        Unreachable: the connection broke. What was yielded is not all: begin again.
    """
    return Lines(Request("GET", _path("users", user_id, "export")))


def erase_user(user_id: str) -> Request[Erased]:
    """Erase everything that is kept of a user, and say how much that was."""
    return Request("DELETE", _path("users", user_id))


def _about_run(run_id: str, user_id: str | None) -> Request[Run]:
    return Request("GET", _path("runs", run_id), _query(user_id=user_id))


def _path(*parts: str) -> str:
    """Return the path of a thing. Ids are what their owners chose: '/', '?', and '..' too."""
    if not all(parts):
        raise ValueError("An id is empty. Expected 1 to 255 characters.")
    return "/v1/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def _key(value: str | None) -> dict[str, str]:
    key = uuid.uuid4().hex if value is None else value
    if not key.strip() or key != key.strip() or CONTROL.search(key):
        raise ValueError("idempotency_key is empty, begins or ends with a space, or holds a control character.")
    return {KEY: key}


def _query(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _time(at: datetime) -> str:
    if at.tzinfo is None:
        raise ValueError(f"The time {at} has no zone. Pass one, such as datetime.now(UTC).")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
