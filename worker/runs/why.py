"""Why a run is not moving: one sentence, and the facts behind it.

The first check that applies gives the reason:

1. The run has ended: then its error.
2. An earlier run of its session has not ended: then why not.
3. A worker executes it: then what it waits for (`runs/executing.py`).
4. It is paused: then how many calls wait for a decision, and until when.
5. The script that enqueued it executes it.
6. No live worker serves its team or consumes its queue.
7. It waits until a given time.
8. The broker is unreachable, or the run is not sent yet.
9. A worker took it from its queue, and has not claimed it.
10. No worker of its queue reaches the database.

Otherwise it waits in its queue for a free slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from worker.clock import rfc3339
from worker.domain import SERVICE, Message, PendingCall, Principal, Status
from worker.domain.dispatch import queue_of
from worker.errors import RunNotFound
from worker.events.model_slots import waits_for_slot
from worker.process import presence
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.runs.executing import sentences, waiting
from worker.settings import Settings
from worker.store import Database, Transaction, messages, pending_calls, run_state, runs
from worker.store.run_state import RunState, Served

Fact = str | int | None
# A process renews its lease after each third of the lease's duration. After half of it without a renewal, `why` reports
# the process as silent.
SILENT_AFTER = 1 / 2
UNSEEN_S = presence.EVERY_S * 1.5  # a worker that has not announced itself for so long does not reach the database


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
        known = _Known(run_state.served(tx, row.team), dispatcher, settings)
        head = None if row.status.terminal or row.head_run_id in (None, run_id) else _head_of(tx, row)
        executed = head or row
        log = messages.without_contents(tx, executed.run_id) if executed.status is Status.RUNNING else []
        calls = pending_calls.of_run(tx, executed.run_id) if executed.status is Status.PAUSED else []
    answer = _paused(executed, calls) if executed.paused_at is not None else _of_run(executed, known, log)
    return _with_summary(answer if head is None else _behind(row, head, answer), row)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known besides the run: who serves its team, the queues, and the settings."""

    team: Served
    dispatcher: Dispatcher | NoDispatcher
    settings: Settings


def _head_of(tx: Transaction, row: RunState) -> RunState | None:
    return None if row.head_run_id is None else run_state.of_run(tx, row.head_run_id)


def _behind(row: RunState, head: RunState, why: Why) -> Why:
    """Say that a run is behind the head of its session, and why the head is not done."""
    detail = f"It is behind run {head.run_id!r} of its session. That run: {why.detail}"
    if why.reason == "not_before":
        detail += " A run with on_busy 'pass' goes before it."
    facts = {name: value for name, value in why.facts.items() if name != "attempt"}
    facts |= {"behind_run_id": head.run_id, "runs_ahead": row.ahead, "behind_reason": why.reason}
    return _because(row, "behind_run", detail, facts)


def _of_run(row: RunState, known: _Known, log: Sequence[Message]) -> Why:
    if row.status.terminal:
        return _ended(row)
    if row.status is Status.RUNNING and row.lease_until is not None:
        return _running(row, row.lease_until, known, log)
    if row.lease_owner is not None and row.not_before is not None and row.not_before > row.now:
        until = rfc3339(row.not_before)
        detail = f"The script that enqueued it, {row.lease_owner!r}, executes it; its lease ends at {until}."
        return _because(row, "held_by_script", detail, {"worker": row.lease_owner, "lease_until": until})
    return _unserved(row, known.team) or _waiting(row) or _queued(row, known)


def _paused(row: RunState, calls: Sequence[PendingCall]) -> Why:
    waiting = [call for call in calls if call.is_open]
    since = rfc3339(min((call.created_at for call in waiting), default=row.paused_at or row.now))
    expiries = [call.expires_at for call in waiting if call.expires_at is not None]
    what = "a call" if len(waiting) == 1 else f"{len(waiting)} calls"
    detail = f"It waits for a decision about {what}, since {since}. See: team-sessions pending list --run {row.run_id}"
    facts: dict[str, Fact] = {"calls": len(waiting), "since": since}
    facts["expires_at"] = rfc3339(min(expiries)) if expiries else None
    return _because(row, "paused", detail, facts)


def _ended(row: RunState) -> Why:
    again = f"To try it again: team-sessions runs retry {row.run_id}"
    detail = "It has ended: it is completed."
    facts: dict[str, Fact] = {}
    if row.status is Status.FAILED:
        detail = f"It failed with {row.error_code!r}: {row.error_message} {again}"
        facts["error_code"] = row.error_code
    elif row.status is Status.CANCELLED:
        detail = f"It was cancelled. {again}"
    return _because(row, "finished", detail, facts)


def _running(row: RunState, lease_until: datetime, known: _Known, log: Sequence[Message]) -> Why:
    until, worker = rfc3339(lease_until), repr(row.lease_owner)
    facts: dict[str, Fact] = {"worker": row.lease_owner, "lease_until": until, "attempt": row.attempt}
    if lease_until <= row.now:
        lost = f"Its worker {worker} does not renew its lease, which expired at {until}"
        if row.lease_owner is None:
            lost = f"Its worker was killed at {until}"
        detail = f"{lost}; another worker takes it over."
        return _unserved(row, known.team) or _because(row, "lease_expired", detail, facts)
    if lease_until - row.now < timedelta(seconds=known.settings.lease_seconds * (1 - SILENT_AFTER)):
        detail = f"Its worker {worker} does not renew its lease. After {until} another worker takes it over."
        return _because(row, "silent_worker", detail, facts)
    if row.cancel_requested_at is not None:
        detail = f"Its cancellation was requested at {rfc3339(row.cancel_requested_at)}; its worker will end it."
        return _because(row, "cancelling", detail, facts)
    waits, more = _in_progress(row, known, log)
    return _because(row, "running", f"Worker {worker} executes it.{waits}", facts | more)


def _in_progress(row: RunState, known: _Known, log: Sequence[Message]) -> tuple[str, dict[str, Fact]]:
    """Return what an executed run waits for, as a sentence and as facts. An attempt waits since it was sent at most."""
    sent_at = row.dispatched_at
    waits = [w if sent_at is None else replace(w, since=max(w.since, sent_at)) for w in waiting(log)]
    if not waits:
        return "", {}
    first = waits[0]
    facts: dict[str, Fact] = {"waits_for": "model" if first.tool is None else "tool", "since": rfc3339(first.since)}
    facts |= {name: value for name, value in (("tool", first.tool), ("member", first.member)) if value is not None}
    text = f" {sentences(waits)}"
    model = None
    if isinstance(known.dispatcher, Dispatcher) and any(one.tool is None for one in waits):
        model = waits_for_slot(known.settings.broker, row.run_id, prefix=known.settings.queue_prefix)
    if model is not None:
        limit = "TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT"
        text += f" Model {model!r} has as many calls in flight as {limit} allows: the run waits until one ends."
        facts |= {"waits_for": "model_slot", "model": model}
    return text, facts


def _unserved(row: RunState, team: Served) -> Why | None:
    """Return a reason if no live worker can execute the run."""
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    seen_at = rfc3339(team.seen_at) if team.seen_at else None
    if not team.queues:
        last = f"the last one was seen at {seen_at}" if seen_at else "none was ever seen"
        detail = f"No live worker serves team {row.team!r}; {last}. Start one, if none is cut off from the database."
        return _because(row, "team_not_served", detail, {"team": row.team, "last_heard_at": seen_at})
    if queue not in team.queues:
        detail = f"No live worker of team {row.team!r} consumes the queue {queue!r}. Start one that does."
        return _because(row, "queue_not_consumed", detail, {"team": row.team, "queue": queue})
    if row.needs > team.contract:
        detail = f"It has an option that no live worker of team {row.team!r} knows. Start one of a newer version."
        return _because(row, "needs_newer_worker", detail, {"team": row.team})
    return None


def _waiting(row: RunState) -> Why | None:
    """Return a reason if the run waits until a given time."""
    if row.not_before is None or row.not_before <= row.now:
        return None
    until = rfc3339(row.not_before)
    if row.waits_for is None:
        detail = f"Its caller set 'not_before': it starts at {until} or later."
        if row.behind:
            detail += f" The runs behind it wait with it: {row.behind}."
        return _because(row, "not_before", detail, {"until": until, "runs_behind": row.behind})
    if row.waits_for == "not_served":
        could_not = "A worker that took it could not execute it: it lacks the team, or had no process free for it."
        return _because(row, "put_back", f"{could_not} It is sent again at {until}.", {"until": until})
    facts: dict[str, Fact] = {"until": until, "error_code": row.waits_for}
    if row.waits_for == "model_rate_limited":
        detail = f"Its model answered 429, too many requests. It is retried at {until}."
        return _because(row, "rate_limited", detail, facts)
    if row.waits_for == "worker_exhausted":
        lacks = "The worker that executed it had no threads or no file handles left, and put it back."
        return _because(row, "worker_exhausted", f"{lacks} It is sent again at {until}.", facts)
    if row.waits_for == "model_busy":
        busy = "Its model has as many calls in flight as TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT allows."
        return _because(row, "model_busy", f"{busy} It is retried at {until}.", facts)
    return _because(row, "waits", f"A model call failed with {row.waits_for!r}. It is retried at {until}.", facts)


def _queued(row: RunState, known: _Known) -> Why:
    queue = queue_of(attempt=row.attempt, priority=row.priority)
    sent = rfc3339(row.dispatched_at) if row.dispatched_at else None
    facts: dict[str, Fact] = {"queue": queue, "dispatched_at": sent}
    depths = known.dispatcher.depths()
    if depths is None:
        detail = "The broker cannot be reached. The run is kept, and is sent when the broker is back."
        return _because(row, "broker_unreachable", detail, facts)
    if sent is None:
        return _because(row, "to_be_sent", "It will be sent to its queue within seconds.", facts)
    waiting, seen_at = depths.get(queue), known.team.queues[queue]
    facts |= {"waiting_in_queue": waiting}
    if waiting == 0:
        detail = (
            f"It was sent to the queue {queue!r} at {sent}, and taken from it, but no worker has claimed it yet. If "
            "that worker was lost or does not reach the database, it is sent again within seconds."
        )
        return _because(row, "not_claimed", detail, facts)
    if row.now - seen_at > timedelta(seconds=UNSEEN_S):
        detail = (
            f"It was sent to the queue {queue!r} at {sent}. No worker that consumes it has reached the database since "
            f"{rfc3339(seen_at)}. Workers take no runs until they do."
        )
        return _because(row, "database_not_reached", detail, facts | {"last_heard_at": rfc3339(seen_at)})
    detail = f"It was sent to the queue {queue!r} at {sent}. It waits there until a worker has a free slot."
    return _because(row, "in_queue", detail, facts)


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
