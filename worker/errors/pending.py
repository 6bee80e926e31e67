"""Decisions about pending calls that are refused."""

from worker.errors.refused import RequestRefused


class PendingNotFound(RequestRefused):
    """Run {run_id!r} has no pending call {pending_id!r}. GET /v1/runs/{run_id}/decisions lists those that it has."""

    code = "pending_not_found"
    status = 404


class AlreadyDecided(RequestRefused):
    """Call {pending_id!r} was decided at {at}: {decision!r}. A decision does not change."""

    code = "already_decided"
    status = 409


class RunNotPaused(RequestRefused):
    """Run {run_id!r} has ended ({status}), so there is nothing to decide."""

    code = "run_not_paused"
    status = 409


class DecisionInvalid(RequestRefused):
    """The decision about call {pending_id!r} is not valid: {problem}."""

    code = "decision_invalid"


class ApproverNeeded(RequestRefused):
    """Only an operator decides about call {pending_id!r}: use a key with the scope 'approvals', bound to no user."""

    code = "approver_needed"
    status = 403


class SessionPaused(RequestRefused):
    """Run {run_id!r} of session {session_id!r} waits for a decision, and a further run would wait for it. Decide first
    (`team.continue_run`), or use `team.enqueue()`, which does not wait.
    """

    code = "session_paused"
    status = 409
