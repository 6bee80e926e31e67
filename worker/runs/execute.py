"""The story of a run. READ FIRST.

A delivery names a run. Take it if it is free (`claim`), keep its lease alive (`keeper`), go on behind its last written
message (`loop`), each message in a transaction that checks the fence (`journal`), end it and make the next run of the
session the head (`finish`), and send on what became ready (`dispatch`).

Whatever goes wrong ends in one of four ways: the run is terminal and says why; it is back in the queue, with all that
it has written; another process has it; or this process is lost, and the lease runs out. In each the next step is taken
by whoever finds it (`sweep`), and nobody's hand is needed.
"""

import random
import time
from dataclasses import dataclass
from datetime import datetime

from worker.clock import rfc3339
from worker.domain.dispatch import queue_of
from worker.domain.event import RUN_REQUEUED, RUN_STARTED
from worker.domain.run import Claim, Replay, RunError, Status
from worker.domain.stop import Reason, Stop, Stopped
from worker.errors import (
    DatabaseUnavailable,
    LeaseLost,
    LimitReached,
    ModelError,
    ReplayDiverged,
    TeamSessionsError,
    WorkersLost,
)
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition, Limits
from worker.loop.loop import converse
from worker.loop.recorded import Recorded
from worker.models.default import default_model
from worker.observe import logs, metrics, tracing
from worker.process.runtime import Runtime
from worker.runs import cancel
from worker.runs.claim import Gone, NotFree, NotHead, Suspect, claim_head
from worker.runs.finish import Ending
from worker.runs.journal import RunJournal
from worker.runs.progress import RunProgress, Say
from worker.runs.session_history import SessionHistory
from worker.store import leases, messages
from worker.summaries.due import threshold

log = logs.get(__name__)

NOT_SERVED_S = 5.0  # how long a run waits that was delivered to a worker without its team
NO_ROOM_S = 2.0  # how long a run waits for a process of its own before it asks again
DATABASE_AWAY_S = 60  # a delivery keeps its slot for so long, rather than being lost as fast as it comes
LOST = "lease lost"
BACKOFF_S = (1.0, 60.0)  # the first wait and the longest, doubling between; Retry-After goes before both


def execute(
    runtime: Runtime, run_id: str, team: str, *, sent_at: datetime | None = None, say: Say | None = None
) -> str:
    """Execute a run as far as it goes, and say in a few words, without message text, how it went.

    *sent_at* is when the delivery that brought it was sent; *say* is told what the run is at.
    """
    definition = runtime.teams.get(team)
    ttl_s = runtime.settings.lease_seconds
    claim = _claim(runtime, run_id, definition, ttl_s=ttl_s)
    if isinstance(claim, Suspect):
        with logs.bound(run_id=run_id, session_id=claim.session_id):
            return _apart(runtime, run_id, team)
    if not isinstance(claim, Claim) or definition is None:
        return type(claim).__name__
    _observe(claim, sent_at=sent_at)
    if sent_at is not None:
        runtime.sweep.note_claim(claim, sent_at=sent_at)
    about = {"run_id": run_id, "session_id": claim.session_id, "attempt": claim.attempt}
    with logs.bound(**about), tracing.attempt(claim) as span:
        return tracing.record_outcome(span, _executed(runtime, definition, claim, ttl_s=ttl_s, say=say))


def _executed(runtime: Runtime, definition: Definition, claim: Claim, *, ttl_s: float, say: Say | None) -> str:
    run_id = claim.run_id
    also = RunProgress(claim, definition, say).hear if say else None
    stream = runtime.publisher.open(
        run_id=run_id, fence=claim.fence, ttl_s=definition.retention.stream_seconds, also=also
    )
    stream.publish(RUN_STARTED(run_id=run_id, attempt=claim.attempt))
    limits = _limits(definition, runtime, timeout_s=claim.timeout_s)
    assert limits.seconds is not None
    left_s = limits.seconds - claim.elapsed_s
    with runtime.keeper.keep(
        leases, run_id, fence=claim.fence, left_s=left_s, cancel_requested=claim.cancel_requested
    ) as stop:
        try:
            journal = RunJournal(runtime.db, claim, stream, stop, ttl_s=ttl_s)
            outcome = _attempt(runtime, definition, limits, claim, journal, stop)
        except LeaseLost:
            outcome = LOST
        except DatabaseUnavailable as error:
            # What is written is kept; the lease runs out and the run goes on behind it.
            log.error("run left to its lease", error=error)
            return "database unavailable"
    if outcome == LOST:
        metrics.LEASE_LOSSES.labels("run").inc()
    runtime.dispatcher.send(journal.dispatches)
    return outcome


def _observe(claim: Claim, *, sent_at: datetime | None) -> None:
    queue = queue_of(attempt=claim.attempt - 1, priority=claim.priority)
    if sent_at is not None:
        metrics.CLAIM.labels(queue).observe(max(0.0, (claim.claimed_at - sent_at).total_seconds()))
    if claim.attempt == 1:
        metrics.START.labels(queue).observe((claim.claimed_at - claim.created_at).total_seconds())


def _attempt(
    runtime: Runtime, definition: Definition, limits: Limits, claim: Claim, journal: RunJournal, stop: Stop
) -> str:
    """Converse until the answer, or until something ends the attempt; write down which."""
    if claim.losses > leases.SUSPECT:
        return _fail(journal, WorkersLost(losses=claim.losses), because="its process ended")
    if claim.attempt > 1:
        journal.publish_restart()
    else:
        journal.publish_input()
    try:
        answer = converse(_conversation(runtime, definition, limits, claim, journal, stop))
        journal.end(Ending(Status.COMPLETED, [answer], output=answer.content, usage=answer.usage))
        return "completed"
    except Stopped as stopped:
        return _stopped(stopped.reason, limits, journal)
    except ModelError as error:
        return _model_failed(error, runtime, limits, claim, journal)
    except (LeaseLost, DatabaseUnavailable):
        raise
    except LimitReached as error:
        return _fail(journal, error, because="the run reached its limit")
    except ReplayDiverged as error:
        return _fail(journal, error, because="the replay left the path of the run that it repeats")
    except Exception as error:  # noqa: BLE001 - a fault in a definition or in us: this run fails, its session goes on
        log.error("run failed on an unexpected error", error=error)
        return _fail(journal, TeamSessionsError(), because="the run failed")


def _conversation(
    runtime: Runtime, definition: Definition, limits: Limits, claim: Claim, journal: RunJournal, stop: Stop
) -> Conversation:
    default = default_model(runtime.settings)
    past = SessionHistory(runtime.db, claim)
    return Conversation(
        definition=definition,
        model=definition.model or default,
        default_model=default,
        limits=limits,
        history=past.history(definition, limits),
        journal=journal,
        history_reader=past,
        ask=runtime.ask,
        stop=stop,
        run_id=claim.run_id,
        session_id=claim.session_id,
        user_id=claim.user_id,
        silence_s=runtime.settings.model_silence_seconds,
        recorded=_recorded(runtime, claim.replay),
    )


def _recorded(runtime: Runtime, replay: Replay | None) -> Recorded | None:
    if replay is None or replay.execute_tools:
        return None
    with runtime.db.read() as tx:
        return Recorded(messages.of_run_by_id(tx, replay.of))


def _stopped(reason: Reason, limits: Limits, journal: RunJournal) -> str:
    match reason:
        case Reason.CANCELLED:
            journal.end(Ending(Status.CANCELLED), because=cancel.BECAUSE)
            return "cancelled"
        case Reason.DEADLINE:
            raised_by = "the run's timeout, or Limits(seconds=…)"
            error = LimitReached(limit=f"{limits.seconds:g}", what="seconds", option=raised_by)
            return _fail(journal, error, because="the run's time was over")
        case Reason.HANDED_OVER:
            journal.requeue(wait_s=None, retried=False)
            return "handed over"
        case Reason.LEASE_LOST:
            return LOST


def _model_failed(error: ModelError, runtime: Runtime, limits: Limits, claim: Claim, journal: RunJournal) -> str:
    """Put the run back until the model may answer again; fail it when that cannot help, or did not for long.

    It waits no longer than the run may take.
    """
    progressed = len(journal.log) > claim.last_seq - claim.first_seq + 1
    retries = 0 if progressed or not error.counted else claim.retries
    if not error.retry or (error.counted and retries >= runtime.settings.model_retries):
        return _fail(journal, error, because="the model failed")
    first, longest = BACKOFF_S
    backoff = min(longest, first * 2**retries) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
    assert limits.seconds is not None
    wait_s = min(
        backoff if error.retry_after_s is None else error.retry_after_s, max(0.0, limits.seconds - claim.elapsed_s)
    )
    at = journal.requeue(wait_s=wait_s, waits_for=error.code, retried=error.counted)
    journal.publish(RUN_REQUEUED(run_id=claim.run_id, reason=error.code, not_before=rfc3339(at)))
    return f"waits: {error.code}"


def _fail(journal: RunJournal, error: TeamSessionsError, *, because: str) -> str:
    journal.end(Ending(Status.FAILED, error=RunError(error.code, error.message)), because=because)
    return f"failed: {error.code}"


def _apart(runtime: Runtime, run_id: str, team: str) -> str:
    """Have a run that may end its processes executed where it can end no other; later, if too many are at that."""
    assert runtime.isolated is not None
    ended = runtime.isolated.execute(run_id, team, stopping=lambda: runtime.keeper.handing_over)
    if ended is None:
        with runtime.db.write() as tx:
            leases.put_back(tx, run_id, wait_s=NO_ROOM_S)
        return "no room for a process of its own"
    metrics.RUNS_ISOLATED.labels("killed" if ended else "ended").inc()
    log.info("executed in a process of its own", exit_code=ended)
    return f"apart: exit code {ended}"


def _limits(definition: Definition, runtime: Runtime, *, timeout_s: float | None) -> Limits:
    """Return the team's limits, and those of the settings where it names none; the run's own timeout can be shorter."""
    own, settings = definition.limits, runtime.settings
    seconds = own.seconds if own.seconds is not None else settings.max_run_seconds
    return Limits(
        turns=own.turns if own.turns is not None else settings.max_turns,
        tool_calls=own.tool_calls if own.tool_calls is not None else settings.max_tool_calls,
        tokens=own.tokens,
        seconds=seconds if timeout_s is None else min(seconds, timeout_s),
        context_tokens=own.context_tokens if own.context_tokens is not None else settings.context_tokens,
    )


@dataclass(frozen=True, slots=True)
class PutBack:
    """The run is left to a worker that can execute it: the sweep sends it again. No attempt is spent."""


@dataclass(frozen=True, slots=True)
class DatabaseAway:
    """The database did not answer for a minute; the sweep sends the run again."""


def _claim(
    runtime: Runtime, run_id: str, definition: Definition | None, *, ttl_s: float
) -> Claim | Gone | NotHead | NotFree | Suspect | PutBack | DatabaseAway:
    """Claim the run, or leave it to another worker if this one is on its way out or does not serve its team."""
    for _ in range(DATABASE_AWAY_S):
        try:
            if definition is not None and not runtime.keeper.handing_over:
                due = threshold(definition.session_summary_manager, runtime.settings)
                return claim_head(
                    runtime.db,
                    run_id,
                    owner=runtime.owner,
                    ttl_s=ttl_s,
                    definition=definition,
                    due=due if definition.enable_session_summaries else None,
                    isolated=runtime.isolated is None,
                )
            with runtime.db.write() as tx:
                leases.put_back(tx, run_id, wait_s=NOT_SERVED_S if definition is None else 0)
            return PutBack()
        except DatabaseUnavailable:
            if runtime.keeper.handing_over:
                break
            time.sleep(1)
    return DatabaseAway()
