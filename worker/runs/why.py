"""Why a run is not moving: one sentence, and the facts behind it.

The first check that applies gives the reason:

1. The run has ended, or a worker executes it.
2. An earlier run of its session has not ended.
3. The script that enqueued it executes it.
4. No live worker serves its team or consumes its queue.
5. It waits until a given time.
6. The broker is unreachable, or the run is not sent yet.

Otherwise it waits in its queue for a free slot.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from worker.clock import rfc3339
from worker.domain import SERVICE, Principal, Status
from worker.domain.dispatch import queue_of
from worker.errors import RunNotFound
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.settings import Settings
from worker.store import Database, run_state, runs
from worker.store.run_state import RunState, Served

Fact = str | int | None
# A process renews its lease after each third of the lease's duration. After two thirds without a renewal, `why` reports
# the process as silent.
SILENT_AFTER = 2 / 3


@dataclass(frozen=True, slots=True)
class Why:
    """Why a run is not moving. `reason` is a stable code; `facts` depend on it. Times in `facts` are RFC 3339."""

    run_id: str
    status: Status
    reason: str
    detail: str
    facts: dict[str, Fact] = field(default_factory=dict)


def why(
    db: Database,
    dispatcher: Dispatcher | NoDispatcher,
    settings: Settings,
    run_id: str,
    *,
    principal: Principal = SERVICE,
    user_id: str | None = None,
) -> Why:
    """Say why a run is not moving. Raises RunNotFound, UserForbidden."""
    with db.read() as tx:
        run = runs.get(tx, run_id, principal=principal, user_id=user_id)
        row = run_state.of_run(tx, run_id) if run is not None else None
        if row is None:
            raise RunNotFound(run_id=run_id)
        team = run_state.served(tx, row.team)
    return _with_summary(_of_run(row, team, dispatcher, settings), row)


def _of_run(row: RunState, team: Served, dispatcher: Dispatcher | NoDispatcher, settings: Settings) -> Why:
    if row.status.terminal:
        return _because(row, "finished", f"It has ended: it is {row.status}.")
    if row.status is Status.RUNNING and row.lease_until is not None:
        return _running(row, row.lease_until, team, settings)
    if row.head_run_id != row.run_id:
        detail = f"It is behind run {row.head_run_id!r}: the runs of a session execute one after the other."
        return _because(row, "behind_run", detail, {"behind_run_id": row.head_run_id, "runs_ahead": row.ahead})
    if row.lease_owner is not None and row.not_before is not None and row.not_before > row.now:
        until = rfc3339(row.not_before)
        detail = f"The script that enqueued it, {row.lease_owner!r}, executes it; its lease ends at {until}."
        return _because(row, "held_by_script", detail, {"worker": row.lease_owner, "lease_until": until})
    return _unserved(row, team) or _waiting(row) or _queued(row, dispatcher)


def _running(row: RunState, lease_until: datetime, team: Served, settings: Settings) -> Why:
    until, worker = rfc3339(lease_until), repr(row.lease_owner)
    facts: dict[str, Fact] = {"worker": row.lease_owner, "lease_until": until, "attempt": row.attempt}
    if lease_until <= row.now:
        detail = (
            f"Its worker {worker} does not renew its lease, which expired at {until}; another worker takes it over."
        )
        return _unserved(row, team) or _because(row, "lease_expired", detail, facts)
    if lease_until - row.now < timedelta(seconds=settings.lease_seconds * (1 - SILENT_AFTER)):
        detail = f"Its worker {worker} does not renew its lease. After {until} another worker takes it over."
        return _because(row, "silent_worker", detail, facts)
    if row.cancel_requested_at is not None:
        detail = f"Its cancellation was requested at {rfc3339(row.cancel_requested_at)}; its worker will end it."
        return _because(row, "cancelling", detail, facts)
    return _because(row, "running", f"It is moving: worker {worker} executes it.", facts)


def _unserved(row: RunState, team: Served) -> Why | None:
    """Return a reason if no live worker can execute the run."""
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    seen_at = rfc3339(team.seen_at) if team.seen_at else None
    if not team.queues:
        last = f"the last one was seen at {seen_at}" if seen_at else "none was ever seen"
        detail = f"No live worker serves team {row.team!r}; {last}. Start one."
        return _because(row, "team_not_served", detail, {"team": row.team, "last_heard_at": seen_at})
    if queue not in team.queues:
        detail = f"No live worker of team {row.team!r} consumes the queue {queue!r}. Start one that does."
        return _because(row, "queue_not_consumed", detail, {"team": row.team, "queue": queue})
    return None


def _waiting(row: RunState) -> Why | None:
    """Return a reason if the run waits until a given time."""
    if row.not_before is None or row.not_before <= row.now:
        return None
    until = rfc3339(row.not_before)
    if row.waits_for is None:
        detail = f"Its caller set 'not_before': it starts at {until} or later."
        return _because(row, "not_before", detail, {"until": until})
    facts: dict[str, Fact] = {"until": until, "error_code": row.waits_for}
    if row.waits_for == "model_rate_limited":
        detail = f"Its model answered 429, too many requests. It is retried at {until}."
        return _because(row, "rate_limited", detail, facts)
    if row.waits_for == "model_busy":
        busy = "Its model has as many calls in flight as TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT allows."
        return _because(row, "model_busy", f"{busy} It is retried at {until}.", facts)
    return _because(row, "waits", f"A model call failed with {row.waits_for!r}. It is retried at {until}.", facts)


def _queued(row: RunState, dispatcher: Dispatcher | NoDispatcher) -> Why:
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    sent = rfc3339(row.dispatched_at) if row.dispatched_at else None
    facts: dict[str, Fact] = {"queue": queue, "dispatched_at": sent}
    depths = dispatcher.depths()
    if depths is None:
        detail = "The broker cannot be reached. The run is kept, and is sent when the broker is back."
        return _because(row, "broker_unreachable", detail, facts)
    if sent is None:
        return _because(row, "to_be_sent", "It will be sent to its queue within seconds.", facts)
    detail = f"It was sent to the queue {queue!r} at {sent}. It waits there until a worker has a free slot."
    return _because(row, "in_queue", detail, facts | {"waiting_in_queue": depths.get(queue)})


def _with_summary(why: Why, row: RunState) -> Why:
    """Add why the last refresh of the session's summary failed. A failed refresh delays no run."""
    if row.summary_error is None:
        return why
    retry_at = rfc3339(row.summary_again_at) if row.summary_again_at else None
    then = f"is retried at {retry_at}" if retry_at else "is not retried until a refresh is due or requested"
    detail = f"{why.detail} The summary of its session could not be refreshed ({row.summary_error}), and {then}."
    facts = {**why.facts, "summary_error_code": row.summary_error, "summary_again_at": retry_at}
    return replace(why, detail=detail, facts=facts)


def _because(row: RunState, reason: str, detail: str, facts: dict[str, Fact] | None = None) -> Why:
    return Why(row.run_id, row.status, reason, detail, facts or {})
