"""The requests of the API. `Client` and `AsyncClient` have these functions as methods.

A function sends nothing. It returns a `Request`, a `Waiting`, a `Listing` or a `Reading`; the clients carry that out,
and their methods return the result.

`user_id`: the user that a service key acts for. Leave it out with a user's own key.
"""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from api_stub.client import types
from api_stub.client.core import KEY, Listing, Request, Waiting
from api_stub.client.streams import Lines, Watch

PAGE = 200  # the largest page that the API returns
CONTROL = re.compile("[\x00-\x1f\x7f]")
T = TypeVar("T")


class Keep(Enum):
    """The value of a field that stays as it is."""

    KEEP = "keep"


def enqueue(
    team: str,
    input: str,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    on_busy: Literal["enqueue", "reject", "interrupt", "rollback", "coalesce", "pass"] | None = None,
    priority: Literal["interactive", "background"] | None = None,
    not_before: datetime | None = None,
    timeout_s: float | None = None,
    metadata: dict[str, Any] | None = None,
    session_state: dict[str, Any] | None = None,
    dependencies: dict[str, Any] | None = None,
    add_dependencies_to_context: bool | None = None,
    idempotency_key: str | None = None,
) -> Request[types.Run]:
    """Enqueue a run and return it, committed. Without a *session_id* it opens a new session.

    Retries never create a second run. Pass an *idempotency_key* of your own, and this holds across restarts.

    Raises:
        RequestFailed, Unreachable: with the `idempotency_key`, to send the same request again.
    """
    body = _not_none(
        team=team,
        input=input,
        session_id=session_id,
        user_id=user_id,
        on_busy=on_busy,
        priority=priority,
        not_before=None if not_before is None else _format_time(not_before),
        timeout=timeout_s,
        metadata=metadata,
        session_state=session_state,
        dependencies=dependencies,
        add_dependencies_to_context=add_dependencies_to_context,
    )
    return Request("POST", _path_of("runs"), body=body, headers=_with_key(idempotency_key))


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
    return Watch(Request("GET", _path_of("runs", run_id, "events"), _not_none(user_id=user_id)), after=after)


def cancel(run_id: str, *, user_id: str | None = None) -> Request[types.Run]:
    """Request the end of a run, and return the run as it is now. Its messages are kept."""
    return Request("POST", _path_of("runs", run_id, "cancel"), _not_none(user_id=user_id))


def retry(run_id: str, *, user_id: str | None = None, idempotency_key: str | None = None) -> Request[types.Run]:
    """Enqueue a failed or cancelled run again, at the end of its session, and return the new run."""
    return Request("POST", _path_of("runs", run_id, "retry"), _not_none(user_id=user_id), _with_key(idempotency_key))


def why(run_id: str, *, user_id: str | None = None) -> Request[types.Why]:
    """Return the reason why a run is not moving."""
    return Request("GET", _path_of("runs", run_id, "why"), _not_none(user_id=user_id))


def continue_run(
    run_id: str,
    decisions: Sequence[types.Decision],
    *,
    approver: str | None = None,
    user_id: str | None = None,
) -> Request[types.Run]:
    """Decide about pending calls of a run, and return the run, which goes on at once with what is decided.

    *approver* is the person who decided. Sending the same decisions again changes nothing.
    """
    body = {"decisions": list(decisions), **_not_none(approver=approver)}
    return Request("POST", _path_of("runs", run_id, "continue"), _not_none(user_id=user_id), body=body)


def decisions(run_id: str, *, user_id: str | None = None) -> Request[types.Decisions]:
    """Return all calls of a run that asked for a decision, with what was decided."""
    return Request("GET", _path_of("runs", run_id, "decisions"), _not_none(user_id=user_id))


def pending(
    *,
    team: str | None = None,
    user_id: str | None = None,
    run_id: str | None = None,
    kind: types.PendingKind | None = None,
    decided_by: types.DecidedBy | None = None,
) -> Listing[types.PendingCall]:
    """Yield the calls that wait for a decision, the oldest first, page by page."""
    return _listing("pending", team=team, user_id=user_id, run_id=run_id, kind=kind, decided_by=decided_by)


def runs(
    *,
    status: types.Status | None = None,
    team: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    idempotency_key: str | None = None,
) -> Listing[types.Run]:
    """Yield runs, the newest first, page by page."""
    return _listing(
        "runs", status=status, team=team, user_id=user_id, session_id=session_id, idempotency_key=idempotency_key
    )


def sessions(
    *, user_id: str | None = None, team: str | None = None, name: str | None = None, tag: str | None = None
) -> Listing[types.Session]:
    """Yield sessions, the one with the latest activity first, page by page."""
    return _listing("sessions", user_id=user_id, team=team, name=name, tag=tag)


def session(session_id: str, *, user_id: str | None = None) -> Request[types.Session]:
    """Return a session."""
    return Request("GET", _path_of("sessions", session_id), _not_none(user_id=user_id))


def update_session(
    session_id: str,
    *,
    name: str | Keep | None = Keep.KEEP,
    description: str | Keep | None = Keep.KEEP,
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    user_id: str | None = None,
) -> Request[types.Session]:
    """Replace the fields that are passed, and return the session. None removes a name or a description."""
    texts = {"name": name, "description": description}
    body: dict[str, Any] = {field: value for field, value in texts.items() if value is not Keep.KEEP}
    body |= _not_none(tags=tags, metadata=metadata)
    return Request("PATCH", _path_of("sessions", session_id), _not_none(user_id=user_id), body=body)


def delete_session(session_id: str, *, user_id: str | None = None) -> Request[None]:
    """Delete a session with everything in it."""
    return Request("DELETE", _path_of("sessions", session_id), _not_none(user_id=user_id))


def messages(
    session_id: str, *, role: Literal["user", "assistant", "tool"] | None = None, user_id: str | None = None
) -> Listing[types.Message]:
    """Yield the messages of a session, or those of one *role*, oldest first, page by page."""
    return _listing("sessions", session_id, "messages", role=role, user_id=user_id)


def session_runs(session_id: str, *, user_id: str | None = None) -> Listing[types.Run]:
    """Yield the runs of a session, the newest first, page by page."""
    return _listing("sessions", session_id, "runs", user_id=user_id)


def summary(session_id: str, *, version: int | None = None, user_id: str | None = None) -> Request[types.Summary]:
    """Return a session's summary, or an older *version* of it."""
    query = _not_none(version=None if version is None else str(version), user_id=user_id)
    return Request("GET", _path_of("sessions", session_id, "summary"), query)


def refresh_summary(session_id: str, *, rebuild: bool = False, user_id: str | None = None) -> Request[types.Requested]:
    """Request a refresh of a session's summary now, before it is due; with *rebuild* from the first message on."""
    query = _not_none(rebuild="true" if rebuild else None, user_id=user_id)
    return Request("POST", _path_of("sessions", session_id, "summary"), query)


def create_batch(
    kind: types.BatchKind,
    *,
    select: types.Selection | None = None,
    session_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    requests: Sequence[types.BatchRun] | None = None,
    more: bool | None = None,
    canary: str | None = None,
    window: int | None = None,
    limits: types.Limits | None = None,
    budget: types.Budget | None = None,
    rebuild: bool | None = None,
    execute_tools: bool | None = None,
    name: str | None = None,
    idempotency_key: str | None = None,
) -> Request[types.Batch]:
    """Create a batch and return it, committed. Pass its items, or *select* them.

    One request takes at most 10,000 items; with *more*, send the others by `add_to_batch`. Retries never create a
    second batch.
    """
    body = _items(more, session_ids=session_ids, run_ids=run_ids, requests=requests) | _not_none(
        kind=kind,
        select=select,
        canary=canary,
        window=window,
        limits=limits,
        budget=budget,
        rebuild=rebuild,
        execute_tools=execute_tools,
        name=name,
    )
    return Request("POST", _path_of("batches"), body=body, headers=_with_key(idempotency_key))


def estimate_batch(kind: types.BatchKind, *, select: types.Selection | None = None) -> Request[types.Estimate]:
    """Estimate a batch without creating it: its items, a sample of them, about how many tokens and their cost."""
    return Request("POST", _path_of("batches"), body=_not_none(kind=kind, select=select, dry_run=True))


def add_to_batch(
    batch_id: str,
    *,
    first: int,
    session_ids: Sequence[str] | None = None,
    run_ids: Sequence[str] | None = None,
    requests: Sequence[types.BatchRun] | None = None,
    more: bool | None = None,
    user_id: str | None = None,
) -> Request[types.Batch]:
    """Add items to a batch that was created with `more`. Without *more* here these are the last, and the batch starts.

    *first* is the number of the first item, `items.planned` + 1. Items that were added before are not added twice.
    """
    body = {"first": first, **_items(more, session_ids=session_ids, run_ids=run_ids, requests=requests)}
    return Request("POST", _path_of("batches", batch_id, "items"), _not_none(user_id=user_id), body=body)


def batches(*, user_id: str | None = None) -> Listing[types.Batch]:
    """Yield batches, the newest first, page by page."""
    return _listing("batches", user_id=user_id)


def batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Return a batch."""
    return Request("GET", _path_of("batches", batch_id), _not_none(user_id=user_id))


def batch_items(
    batch_id: str, *, status: types.ItemStatus | None = None, user_id: str | None = None
) -> Listing[types.Item]:
    """Yield the items of a batch, or those of one *status*, in order, page by page."""
    return _listing("batches", batch_id, "items", status=status, user_id=user_id)


def batch_results(batch_id: str, *, user_id: str | None = None) -> Lines:
    """Yield all items of a batch, in order, with `old_output` and `new_output`.

    Raises:
        Unreachable: the connection broke, and items are missing. Begin again.
    """
    return Lines(Request("GET", _path_of("batches", batch_id, "results"), _not_none(user_id=user_id)))


def pause_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start no more items; those in flight continue."""
    return Request("POST", _path_of("batches", batch_id, "pause"), _not_none(user_id=user_id))


def resume_batch(
    batch_id: str, *, budget: types.Budget | None = None, user_id: str | None = None
) -> Request[types.Batch]:
    """Resume a paused batch. After a canary this approves the rest. After a used-up budget, pass a higher *budget*."""
    body = _not_none(budget=budget)
    return Request("POST", _path_of("batches", batch_id, "resume"), _not_none(user_id=user_id), body=body)


def cancel_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start no more items, cancel the runs in flight, and return the batch as it is now."""
    return Request("POST", _path_of("batches", batch_id, "cancel"), _not_none(user_id=user_id))


def retry_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start the items again that failed, diverged or were cancelled."""
    return Request("POST", _path_of("batches", batch_id, "retry"), _not_none(user_id=user_id))


def teams() -> Listing[types.Team]:
    """Yield the teams that live workers serve, by id."""
    return Listing(Request("GET", _path_of("teams")))


def export_user(user_id: str) -> Lines:
    """Yield everything that is stored about a user, one object at a time.

    Raises:
        Unreachable: the connection broke, and objects are missing. Begin again.
    """
    return Lines(Request("GET", _path_of("users", user_id, "export")))


def erase_user(user_id: str) -> Request[types.Erased]:
    """Erase everything that is stored about a user, and return how much that was."""
    return Request("DELETE", _path_of("users", user_id))


def _get_run(run_id: str, user_id: str | None) -> Request[types.Run]:
    return Request("GET", _path_of("runs", run_id), _not_none(user_id=user_id))


def _items(more: bool | None, **lists: Sequence[Any] | None) -> dict[str, Any]:
    return {name: list(items) for name, items in _not_none(**lists).items()} | _not_none(more=more)


def _path_of(*parts: str) -> str:
    """Return the path of a resource. Ids are chosen by users, and may hold '/' or '?', or be '..'."""
    if not all(parts):
        raise ValueError("An id is empty. Expected 1 to 255 characters.")
    return "/v1/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def _not_none(**fields: T | None) -> dict[str, T]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def _listing(*parts: str, **query: str | None) -> Listing[Any]:
    """Return the list at a path, in pages."""
    return Listing(Request("GET", _path_of(*parts), {**_not_none(**query), "limit": str(PAGE)}))


def _with_key(value: str | None) -> dict[str, str]:
    """Return the header that makes a request safe to repeat, with the caller's key or a new one."""
    key = uuid.uuid4().hex if value is None else value
    if not key.strip() or key != key.strip() or CONTROL.search(key):
        raise ValueError("idempotency_key is empty, begins or ends with a space, or holds a control character.")
    return {KEY: key}


def _format_time(at: datetime) -> str:
    """Return a time in RFC 3339."""
    if at.tzinfo is None:
        raise ValueError(f"The time {at} has no zone. Pass one, such as datetime.now(UTC).")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
