"""Requests about pending calls: what the methods of both clients send."""

from collections.abc import Sequence

from api_stub.client import types
from api_stub.client.core import Listing, Request
from api_stub.client.paths import listing, not_none, path_of


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
    body = {"decisions": list(decisions), **not_none(approver=approver)}
    return Request("POST", path_of("runs", run_id, "continue"), not_none(user_id=user_id), body=body)


def decisions(run_id: str, *, user_id: str | None = None) -> Request[types.Decisions]:
    """Return all calls of a run that asked for a decision, with what was decided."""
    return Request("GET", path_of("runs", run_id, "decisions"), not_none(user_id=user_id))


def pending(
    *,
    team: str | None = None,
    user_id: str | None = None,
    run_id: str | None = None,
    kind: types.PendingKind | None = None,
    decided_by: types.DecidedBy | None = None,
) -> Listing[types.PendingCall]:
    """Yield the calls that wait for a decision, the oldest first, page by page."""
    return listing("pending", team=team, user_id=user_id, run_id=run_id, kind=kind, decided_by=decided_by)
