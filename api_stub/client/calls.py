"""What the API can be asked for, once: `Client` and `AsyncClient` have these functions, and `batches`', as methods.

A function sends nothing. It returns what is to be sent: a `Request`, a `Waiting`, a `Listing` or a `Reading`; the
clients carry that out, and their methods return what it came to.

Wherever there is a `user_id`, a service key names with it the user that it acts for; a user's own key leaves it out.
"""

from datetime import datetime
from enum import Enum
from typing import Any, Literal

from api_stub.client.core import Listing, Request, Waiting
from api_stub.client.encoding import PAGE, given, path_of, query_of, time_of, with_key
from api_stub.client.streams import Lines, Watch
from api_stub.client.types import Erased, Message, Requested, Run, Session, Status, Summary, Team, Why


class Keep(Enum):
    """The value of a field that stays as it is."""

    KEEP = "keep"


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
    body = given(
        team=team,
        input=input,
        session_id=session_id,
        user_id=user_id,
        on_busy=on_busy,
        priority=priority,
        not_before=None if not_before is None else time_of(not_before),
        timeout=timeout_s,
        metadata=metadata,
    )
    return Request("POST", path_of("runs"), body=body, headers=with_key(idempotency_key))


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
    return Watch(Request("GET", path_of("runs", run_id, "events"), query_of(user_id=user_id)), after=after)


def cancel(run_id: str, *, user_id: str | None = None) -> Request[Run]:
    """Ask for the end of a run, and return it as it is now. What it wrote is kept."""
    return Request("POST", path_of("runs", run_id, "cancel"), query_of(user_id=user_id))


def retry(run_id: str, *, user_id: str | None = None, idempotency_key: str | None = None) -> Request[Run]:
    """Enqueue a failed or cancelled run again, and return the new one: it stands at the end of its session."""
    return Request("POST", path_of("runs", run_id, "retry"), query_of(user_id=user_id), with_key(idempotency_key))


def why(run_id: str, *, user_id: str | None = None) -> Request[Why]:
    """Say why a run is not moving."""
    return Request("GET", path_of("runs", run_id, "why"), query_of(user_id=user_id))


def runs(
    *,
    status: Status | None = None,
    team: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    idempotency_key: str | None = None,
) -> Listing[Run]:
    """Yield runs, the newest first, page by page."""
    query = query_of(status=status, team=team, user_id=user_id, session_id=session_id, idempotency_key=idempotency_key)
    return Listing(Request("GET", path_of("runs"), {**query, "limit": str(PAGE)}))


def sessions(
    *, user_id: str | None = None, team: str | None = None, name: str | None = None, tag: str | None = None
) -> Listing[Session]:
    """Yield sessions, the one with the latest activity first, page by page."""
    query = query_of(user_id=user_id, team=team, name=name, tag=tag)
    return Listing(Request("GET", path_of("sessions"), {**query, "limit": str(PAGE)}))


def session(session_id: str, *, user_id: str | None = None) -> Request[Session]:
    """Return a session."""
    return Request("GET", path_of("sessions", session_id), query_of(user_id=user_id))


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
    body |= given(tags=tags, metadata=metadata)
    return Request("PATCH", path_of("sessions", session_id), query_of(user_id=user_id), body=body)


def delete_session(session_id: str, *, user_id: str | None = None) -> Request[None]:
    """Delete a session with everything in it."""
    return Request("DELETE", path_of("sessions", session_id), query_of(user_id=user_id))


def messages(
    session_id: str, *, role: Literal["user", "assistant", "tool"] | None = None, user_id: str | None = None
) -> Listing[Message]:
    """Yield the messages of a session, oldest first, page by page; those of one *role* only."""
    query = query_of(role=role, user_id=user_id)
    return Listing(Request("GET", path_of("sessions", session_id, "messages"), {**query, "limit": str(PAGE)}))


def session_runs(session_id: str, *, user_id: str | None = None) -> Listing[Run]:
    """Yield the runs of a session, the newest first, page by page."""
    query = query_of(user_id=user_id)
    return Listing(Request("GET", path_of("sessions", session_id, "runs"), {**query, "limit": str(PAGE)}))


def summary(session_id: str, *, version: int | None = None, user_id: str | None = None) -> Request[Summary]:
    """Return a session's summary, or an older *version* of it."""
    query = query_of(version=None if version is None else str(version), user_id=user_id)
    return Request("GET", path_of("sessions", session_id, "summary"), query)


def refresh_summary(session_id: str, *, rebuild: bool = False, user_id: str | None = None) -> Request[Requested]:
    """Have a session's summary refreshed now, and not when it is due; with *rebuild* from the first message on."""
    query = query_of(rebuild="true" if rebuild else None, user_id=user_id)
    return Request("POST", path_of("sessions", session_id, "summary"), query)


def teams() -> Listing[Team]:
    """Yield the teams that live workers serve, by id."""
    return Listing(Request("GET", path_of("teams")))


def export_user(user_id: str) -> Lines:
    """Yield everything that is kept of a user, one object after the other.

    Raises:
        Unreachable: the connection broke. What was yielded is not all: begin again.
    """
    return Lines(Request("GET", path_of("users", user_id, "export")))


def erase_user(user_id: str) -> Request[Erased]:
    """Erase everything that is kept of a user, and say how much that was."""
    return Request("DELETE", path_of("users", user_id))


def _about_run(run_id: str, user_id: str | None) -> Request[Run]:
    return Request("GET", path_of("runs", run_id), query_of(user_id=user_id))
