"""Why a run is not moving: one sentence, and the facts that it rests on.

What is asked goes from the run outwards: is it over, executed, behind another, waiting for a time; does anybody serve
its team and consume its queue; does the broker answer; and only then is every slot taken.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from worker.clock import rfc3339
from worker.domain import SERVICE, Principal, Status
from worker.domain.dispatch import queue_of
from worker.errors import RunNotFound
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.settings import Settings
from worker.store import Database, run_state, runs
from worker.store.run_state import RunState, Served

Fact = str | int | None
LATE = 2 / 3  # a lease is renewed each third of its time: with so much of it over, its process is silent


@dataclass(frozen=True, slots=True)
class Why:
    """The answer. `reason` is stable; `facts` depend on it, times among them in RFC 3339."""

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
    """Say why a run is not moving.

    Raises:
        RunNotFound, UserForbidden
    """
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
    if row.status is Status.RUNNING:
        return _running(row, team, settings)
    if row.head_run_id != row.run_id:
        detail = f"It is behind run {row.head_run_id!r}: the runs of a session execute one after the other."
        return _because(row, "behind_run", detail, behind_run_id=row.head_run_id, runs_ahead=row.ahead)
    if row.lease_owner is not None and row.not_before is not None and row.not_before > row.now:
        until = rfc3339(row.not_before)
        detail = f"The script that enqueued it, {row.lease_owner!r}, executes it itself; its lease runs until {until}."
        return _because(row, "held_by_script", detail, worker=row.lease_owner, lease_until=until)
    return _unserved(row, team) or _waiting(row) or _queued(row, dispatcher)


def _running(row: RunState, team: Served, settings: Settings) -> Why:
    assert row.lease_until is not None
    facts: dict[str, Fact] = {
        "worker": row.lease_owner,
        "lease_until": rfc3339(row.lease_until),
        "attempt": row.attempt,
    }
    until = facts["lease_until"]
    if row.lease_until <= row.now:
        detail = f"Its worker {row.lease_owner!r} is silent, and its lease ran out at {until}; another takes it over."
        return _unserved(row, team) or _because(row, "lease_expired", detail, **facts)
    if row.lease_until - row.now < timedelta(seconds=settings.lease_seconds * (1 - LATE)):
        detail = f"Its worker {row.lease_owner!r} is silent; its lease runs until {until}, then another takes it over."
        return _because(row, "silent_worker", detail, **facts)
    if row.cancel_requested_at is not None:
        detail = f"Somebody asked for its end at {rfc3339(row.cancel_requested_at)}; its worker is about to end it."
        return _because(row, "cancelling", detail, **facts)
    return _because(row, "running", f"It is moving: worker {row.lease_owner!r} executes it.", **facts)


def _unserved(row: RunState, team: Served) -> Why | None:
    """Tell whether nobody is there to execute it."""
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    heard = rfc3339(team.seen_at) if team.seen_at else None
    if not team.queues:
        detail = f"No live worker serves team {row.team!r}; the last was heard of at {heard}. Start one."
        return _because(row, "team_not_served", detail, team=row.team, last_heard_at=heard)
    if queue not in team.queues:
        detail = f"No live worker of team {row.team!r} consumes the queue {queue!r}. Start one that does."
        return _because(row, "queue_not_consumed", detail, team=row.team, queue=queue)
    return None


def _waiting(row: RunState) -> Why | None:
    """Tell whether it waits for a time."""
    if row.not_before is None or row.not_before <= row.now:
        return None
    until = rfc3339(row.not_before)
    if row.waits_for is None:
        return _because(row, "not_before", f"It shall not start before {until}: its caller said so.", until=until)
    if row.waits_for == "model_rate_limited":
        detail = f"Its model answered 429, too many requests: it waits until {until}."
        return _because(row, "rate_limited", detail, until=until, error_code=row.waits_for)
    if row.waits_for == "model_busy":
        detail = "Its model has as many calls in flight as TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT allows; it tries again."
        return _because(row, "model_busy", detail, until=until, error_code=row.waits_for)
    detail = f"It waits until {until} because of {row.waits_for!r}, and is tried again then."
    return _because(row, "waits", detail, until=until, error_code=row.waits_for)


def _queued(row: RunState, dispatcher: Dispatcher | NoDispatcher) -> Why:
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    sent = rfc3339(row.dispatched_at) if row.dispatched_at else None
    depths = dispatcher.depths()
    if depths is None:
        detail = "The broker cannot be reached. The run is kept, and is sent once the broker answers."
        return _because(row, "broker_unreachable", detail, queue=queue, dispatched_at=sent)
    waiting = depths.get(queue)
    if sent is None:
        detail = "It is ready, and is sent to its queue within seconds."
        return _because(row, "to_be_sent", detail, queue=queue, dispatched_at=None)
    detail = f"It was sent to the queue {queue!r} at {sent}, and waits there for a free slot of a worker."
    return _because(row, "in_queue", detail, queue=queue, dispatched_at=sent, waiting_in_queue=waiting)


def _with_summary(why: Why, row: RunState) -> Why:
    """Add what keeps the session's summary from being refreshed. It delays no run."""
    if row.summary_error is None:
        return why
    again = rfc3339(row.summary_again_at) if row.summary_again_at else None
    then = f"is tried again at {again}" if again else "is not tried again until somebody asks for it"
    detail = f"{why.detail} The summary of its session could not be refreshed ({row.summary_error}), and {then}."
    facts = {**why.facts, "summary_error_code": row.summary_error, "summary_again_at": again}
    return replace(why, detail=detail, facts=facts)


def _because(row: RunState, reason: str, detail: str, **facts: Fact) -> Why:
    return Why(row.run_id, row.status, reason, detail, facts)
