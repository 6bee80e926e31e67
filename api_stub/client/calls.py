"""The requests of the API. `Client` and `AsyncClient` have these functions, and those of `batches`, as methods.

A function sends nothing. It returns a `Request`, a `Waiting`, a `Listing` or a `Reading`; the clients carry that out,
and their methods return the result.

`user_id`: the user that a service key acts for. Leave it out with a user's own key.
"""

from datetime import datetime
from enum import Enum
from typing import Any, Literal

from api_stub.client.core import Listing, Request, Waiting
from api_stub.client.encoding import format_time, listing, not_none, path_of, with_key
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
    """Enqueue a run and return it, committed. Without a *session_id* it opens a new session.

    Retries never create a second run. Pass an *idempotency_key* of your own, and this holds across restarts.

    Raises:
        RequestFailed, Unreachable: with the `idempotency_key`, to send the same request again.
    """
    body = not_none(
        team=team,
        input=input,
        session_id=session_id,
        user_id=user_id,
        on_busy=on_busy,
        priority=priority,
        not_before=None if not_before is None else format_time(not_before),
        timeout=timeout_s,
        metadata=metadata,
    )
    return Request("POST", path_of("runs"), body=body, headers=with_key(idempotency_key))


def run(run_id: str, *, wait_s: float = 0, user_id: str | None = None) -> Waiting:
    """Return a run. With *wait_s*, wait that many seconds for its end first; then return it, ended or not."""
    return Waiting(_get_run(run_id, user_id), wait_s=wait_s)


def wait(run_id: str, *, timeout_s: float | None = None, user_id: str | None = None) -> Waiting:
    """Wait for a run to end, and return it.

    Raises:
        TimeoutError: it has not ended within *timeout_s* seconds. The run continues.
    """
    return Waiting(_get_run(run_id, user_id), wait_s=timeout_s, strict=True)


def stream(run_id: str, *, after: str | None = None, user_id: str | None = None) -> Watch:
    """Yield a run's events as they happen, up to the terminal one. A connection that breaks is resumed.

    *after*: begin with the event that follows this id.
    """
    return Watch(Request("GET", path_of("runs", run_id, "events"), not_none(user_id=user_id)), after=after)


def cancel(run_id: str, *, user_id: str | None = None) -> Request[Run]:
    """Request the end of a run, and return the run as it is now. Its messages are kept."""
    return Request("POST", path_of("runs", run_id, "cancel"), not_none(user_id=user_id))


def retry(run_id: str, *, user_id: str | None = None, idempotency_key: str | None = None) -> Request[Run]:
    """Enqueue a failed or cancelled run again, at the end of its session, and return the new run."""
    return Request("POST", path_of("runs", run_id, "retry"), not_none(user_id=user_id), with_key(idempotency_key))


def why(run_id: str, *, user_id: str | None = None) -> Request[Why]:
    """Return the reason why a run is not moving."""
    return Request("GET", path_of("runs", run_id, "why"), not_none(user_id=user_id))


def runs(
    *,
    status: Status | None = None,
    team: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    idempotency_key: str | None = None,
) -> Listing[Run]:
    """Yield runs, the newest first, page by page."""
    return listing(
        "runs", status=status, team=team, user_id=user_id, session_id=session_id, idempotency_key=idempotency_key
    )


def sessions(
    *, user_id: str | None = None, team: str | None = None, name: str | None = None, tag: str | None = None
) -> Listing[Session]:
    """Yield sessions, the one with the latest activity first, page by page."""
    return listing("sessions", user_id=user_id, team=team, name=name, tag=tag)


def session(session_id: str, *, user_id: str | None = None) -> Request[Session]:
    """Return a session."""
    return Request("GET", path_of("sessions", session_id), not_none(user_id=user_id))


def update_session(
    session_id: str,
    *,
    name: str | Keep | None = Keep.KEEP,
    description: str | Keep | None = Keep.KEEP,
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    user_id: str | None = None,
) -> Request[Session]:
    """Replace the fields that are passed, and return the session. None removes a name or a description."""
    texts = {"name": name, "description": description}
    body: dict[str, Any] = {field: value for field, value in texts.items() if value is not Keep.KEEP}
    body |= not_none(tags=tags, metadata=metadata)
    return Request("PATCH", path_of("sessions", session_id), not_none(user_id=user_id), body=body)


def delete_session(session_id: str, *, user_id: str | None = None) -> Request[None]:
    """Delete a session with everything in it."""
    return Request("DELETE", path_of("sessions", session_id), not_none(user_id=user_id))


def messages(
    session_id: str, *, role: Literal["user", "assistant", "tool"] | None = None, user_id: str | None = None
) -> Listing[Message]:
    """Yield the messages of a session, or those of one *role*, oldest first, page by page."""
    return listing("sessions", session_id, "messages", role=role, user_id=user_id)


def session_runs(session_id: str, *, user_id: str | None = None) -> Listing[Run]:
    """Yield the runs of a session, the newest first, page by page."""
    return listing("sessions", session_id, "runs", user_id=user_id)


def summary(session_id: str, *, version: int | None = None, user_id: str | None = None) -> Request[Summary]:
    """Return a session's summary, or an older *version* of it."""
    query = not_none(version=None if version is None else str(version), user_id=user_id)
    return Request("GET", path_of("sessions", session_id, "summary"), query)


def refresh_summary(session_id: str, *, rebuild: bool = False, user_id: str | None = None) -> Request[Requested]:
    """Request a refresh of a session's summary now, before it is due; with *rebuild* from the first message on."""
    query = not_none(rebuild="true" if rebuild else None, user_id=user_id)
    return Request("POST", path_of("sessions", session_id, "summary"), query)


def teams() -> Listing[Team]:
    """Yield the teams that live workers serve, by id."""
    return Listing(Request("GET", path_of("teams")))


def export_user(user_id: str) -> Lines:
    """Yield everything that is stored about a user, one object at a time.

    Raises:
        Unreachable: the connection broke, and objects are missing. Begin again.
    """
    return Lines(Request("GET", path_of("users", user_id, "export")))


def erase_user(user_id: str) -> Request[Erased]:
    """Erase everything that is stored about a user, and return how much that was."""
    return Request("DELETE", path_of("users", user_id))


def _get_run(run_id: str, user_id: str | None) -> Request[Run]:
    return Request("GET", path_of("runs", run_id), not_none(user_id=user_id))
