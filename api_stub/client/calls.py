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
from typing import Any, Literal

from api_stub.client import types
from api_stub.client.core import KEY, Listing, Request, Waiting
from api_stub.client.paths import listing, not_none, path_of
from api_stub.client.streams import Lines, Watch

CONTROL = re.compile("[\x00-\x1f\x7f]")


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
    output_schema: dict[str, Any] | None = None,
    output_name: str | None = None,
    idempotency_key: str | None = None,
) -> Request[types.Run]:
    """Enqueue a run and return it, committed. Without a *session_id* it opens a new session.

    With an *output_schema*, a JSON schema, the run's `parsed` is the answer as an object.

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
        not_before=None if not_before is None else _format_time(not_before),
        timeout=timeout_s,
        metadata=metadata,
        session_state=session_state,
        dependencies=dependencies,
        add_dependencies_to_context=add_dependencies_to_context,
        output_schema=output_schema,
        output_name=output_name,
    )
    return Request("POST", path_of("runs"), body=body, headers=_with_key(idempotency_key))


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


def cancel(run_id: str, *, user_id: str | None = None) -> Request[types.Run]:
    """Request the end of a run, and return the run as it is now. Its messages are kept."""
    return Request("POST", path_of("runs", run_id, "cancel"), not_none(user_id=user_id))


def retry(run_id: str, *, user_id: str | None = None, idempotency_key: str | None = None) -> Request[types.Run]:
    """Enqueue a failed or cancelled run again, at the end of its session, and return the new run."""
    return Request("POST", path_of("runs", run_id, "retry"), not_none(user_id=user_id), _with_key(idempotency_key))


def why(run_id: str, *, user_id: str | None = None) -> Request[types.Why]:
    """Return the reason why a run is not moving."""
    return Request("GET", path_of("runs", run_id, "why"), not_none(user_id=user_id))


def runs(
    *,
    status: types.Status | None = None,
    team: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    idempotency_key: str | None = None,
) -> Listing[types.Run]:
    """Yield runs, the newest first, page by page."""
    return listing(
        "runs", status=status, team=team, user_id=user_id, session_id=session_id, idempotency_key=idempotency_key
    )


def sessions(
    *, user_id: str | None = None, team: str | None = None, name: str | None = None, tag: str | None = None
) -> Listing[types.Session]:
    """Yield sessions, the one with the latest activity first, page by page."""
    return listing("sessions", user_id=user_id, team=team, name=name, tag=tag)


def session(session_id: str, *, user_id: str | None = None) -> Request[types.Session]:
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
) -> Request[types.Session]:
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
) -> Listing[types.Message]:
    """Yield the messages of a session, or those of one *role*, oldest first, page by page."""
    return listing("sessions", session_id, "messages", role=role, user_id=user_id)


def session_runs(session_id: str, *, user_id: str | None = None) -> Listing[types.Run]:
    """Yield the runs of a session, the newest first, page by page."""
    return listing("sessions", session_id, "runs", user_id=user_id)


def summary(session_id: str, *, version: int | None = None, user_id: str | None = None) -> Request[types.Summary]:
    """Return a session's summary, or an older *version* of it."""
    query = not_none(version=None if version is None else str(version), user_id=user_id)
    return Request("GET", path_of("sessions", session_id, "summary"), query)


def refresh_summary(session_id: str, *, rebuild: bool = False, user_id: str | None = None) -> Request[types.Requested]:
    """Request a refresh of a session's summary now, before it is due; with *rebuild* from the first message on."""
    query = not_none(rebuild="true" if rebuild else None, user_id=user_id)
    return Request("POST", path_of("sessions", session_id, "summary"), query)


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
    body = _items(more, session_ids=session_ids, run_ids=run_ids, requests=requests) | not_none(
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
    return Request("POST", path_of("batches"), body=body, headers=_with_key(idempotency_key))


def estimate_batch(kind: types.BatchKind, *, select: types.Selection | None = None) -> Request[types.Estimate]:
    """Estimate a batch without creating it: its items, a sample of them, about how many tokens and their cost."""
    return Request("POST", path_of("batches"), body=not_none(kind=kind, select=select, dry_run=True))


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
    return Request("POST", path_of("batches", batch_id, "items"), not_none(user_id=user_id), body=body)


def batches(*, user_id: str | None = None) -> Listing[types.Batch]:
    """Yield batches, the newest first, page by page."""
    return listing("batches", user_id=user_id)


def batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Return a batch."""
    return Request("GET", path_of("batches", batch_id), not_none(user_id=user_id))


def batch_items(
    batch_id: str, *, status: types.ItemStatus | None = None, user_id: str | None = None
) -> Listing[types.Item]:
    """Yield the items of a batch, or those of one *status*, in order, page by page."""
    return listing("batches", batch_id, "items", status=status, user_id=user_id)


def batch_results(batch_id: str, *, user_id: str | None = None) -> Lines:
    """Yield all items of a batch, in order, with `old_output` and `new_output`.

    Raises:
        Unreachable: the connection broke, and items are missing. Begin again.
    """
    return Lines(Request("GET", path_of("batches", batch_id, "results"), not_none(user_id=user_id)))


def pause_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start no more items; those in flight continue."""
    return Request("POST", path_of("batches", batch_id, "pause"), not_none(user_id=user_id))


def resume_batch(
    batch_id: str, *, budget: types.Budget | None = None, user_id: str | None = None
) -> Request[types.Batch]:
    """Resume a paused batch. After a canary this approves the rest. After a used-up budget, pass a higher *budget*."""
    body = not_none(budget=budget)
    return Request("POST", path_of("batches", batch_id, "resume"), not_none(user_id=user_id), body=body)


def cancel_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start no more items, cancel the runs in flight, and return the batch as it is now."""
    return Request("POST", path_of("batches", batch_id, "cancel"), not_none(user_id=user_id))


def retry_batch(batch_id: str, *, user_id: str | None = None) -> Request[types.Batch]:
    """Start the items again that failed, diverged or were cancelled."""
    return Request("POST", path_of("batches", batch_id, "retry"), not_none(user_id=user_id))


def teams() -> Listing[types.Team]:
    """Yield the teams that live workers serve, by id."""
    return Listing(Request("GET", path_of("teams")))


def export_user(user_id: str) -> Lines:
    """Yield everything that is stored about a user, one object at a time.

    Raises:
        Unreachable: the connection broke, and objects are missing. Begin again.
    """
    return Lines(Request("GET", path_of("users", user_id, "export")))


def erase_user(user_id: str) -> Request[types.Erased]:
    """Erase everything that is stored about a user, and return how much that was."""
    return Request("DELETE", path_of("users", user_id))


def _get_run(run_id: str, user_id: str | None) -> Request[types.Run]:
    return Request("GET", path_of("runs", run_id), not_none(user_id=user_id))


def _items(more: bool | None, **lists: Sequence[Any] | None) -> dict[str, Any]:
    return {name: list(items) for name, items in not_none(**lists).items()} | not_none(more=more)


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
