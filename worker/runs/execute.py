"""The story of a run. READ FIRST.

1. A delivery names a run. `execute` claims it if it is free (`claim.claim_head`).
2. While it executes, the keeper renews its lease and tells it to stop (`process.keeper`).
3. `_converse` continues after the run's last written message (`loop.loop.converse`). The journal writes each message
   in a transaction that checks the fence (`journal.RunJournal`).
4. Calls that wait for a decision pause the run; the decision queues it again (`runs.decide`).
5. The last transaction ends the run and makes the session's next run the head (`finish.end_head`).
6. `execute` sends the dispatches of that transaction (`queue.dispatch`): the next head, and a summary that is due.

Every failure ends in one of four ways: the run is terminal and has an error; it is queued again and keeps its messages;
another process has claimed it; or this process is lost and the lease expires. The sweep of any worker then takes the
next step (`process.sweep`), without manual work. A database that is away is no failure: what this process holds waits,
and is written when it answers (`process.patience`).
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from worker.clock import rfc3339
from worker.domain import (
    Backoff,
    Claim,
    End,
    Outcome,
    Paused,
    Reason,
    RunError,
    Status,
    Stop,
    Stopped,
    silence_limit,
)
from worker.domain.dispatch import queue_of
from worker.domain.event import RUN_REQUEUED, RUN_STARTED
from worker.errors import (
    AnswerInvalid,
    DatabaseUnavailable,
    DecisionExpired,
    HookFailed,
    InputRefused,
    LeaseLost,
    LimitReached,
    ModelError,
    OutputRefused,
    ReplayDiverged,
    TeamSessionsError,
    WorkerExhausted,
    WorkersLost,
)
from worker.events.publish import RunStream
from worker.loop import answer
from worker.loop.conversation import Conversation
from worker.loop.definition import Definition
from worker.loop.loop import converse
from worker.models.openai_chat import default_model
from worker.observe import exhaustion, logs, metrics, tracing
from worker.process.patience import Patience, of_attempt
from worker.process.runtime import Runtime
from worker.runs import cancel, current, decide, earlier
from worker.runs.claim import NotClaimed, Suspect, claim_head
from worker.runs.finish import Ending
from worker.runs.journal import RunJournal
from worker.runs.progress import Report, RunProgress
from worker.runs.session_history import SessionHistory
from worker.store import leases
from worker.summaries.due import threshold

log = logs.get(__name__)

NOT_SERVED_S = 5.0  # how long a run waits after its delivery to a worker without its team
EXHAUSTED_S = 2.0  # how long a run waits after a worker without threads or file handles
NO_PROCESS_S = 2.0  # how long a run waits when no isolated process is free
DATABASE_AWAY_S = 3.0  # how long a delivery waits for the database; then it goes back, for a worker that reaches it
BACKOFF = Backoff(first_s=1.0, longest_s=60.0)


def execute(
    runtime: Runtime, run_id: str, team: str, *, sent_at: datetime | None = None, report: Report | None = None
) -> Outcome:
    """Execute a run until it ends, waits, or leaves this process.

    *sent_at* is when its delivery was sent; *report* receives its progress.
    """
    definition = runtime.teams.get(team)
    claim = _claim(runtime, run_id, team, definition)
    if isinstance(claim, Suspect):
        with logs.bound(run_id=run_id, session_id=claim.session_id):
            return _execute_isolated(runtime, run_id, team)
    if isinstance(claim, Outcome) or definition is None:
        return claim if isinstance(claim, Outcome) else Outcome(End.PUT_BACK)
    if sent_at is not None:
        sent_at = min(sent_at, claim.claimed_at)  # a time to come would make all that was sent before it count as lost
    _observe(claim, sent_at=sent_at)
    if sent_at is not None:
        runtime.sweep.note_claim(claim, sent_at=sent_at)
    with logs.bound(run_id=run_id, session_id=claim.session_id, attempt=claim.attempt), tracing.attempt(claim) as span:
        outcome = tracing.record_outcome(span, _execute_claimed(runtime, definition, claim, report))
        return replace(outcome, attempt=claim.attempt)


def _claim(runtime: Runtime, run_id: str, team: str, definition: Definition | None) -> Claim | Suspect | Outcome:
    """Claim the run, or leave it to another worker if this one is stopping or does not serve its team."""
    try:
        if definition is not None and not runtime.keeper.handing_over:
            due = threshold(definition.session_summary_manager, runtime.settings)
            claim = claim_head(
                runtime.db,
                run_id,
                owner=runtime.owner,
                ttl_s=runtime.settings.lease_seconds,
                definition=definition,
                due=due if definition.enable_session_summaries else None,
                isolated=runtime.isolated is None,
                may_take_over=runtime.contact.is_old,
                give_up=lambda failing_s: runtime.keeper.handing_over or failing_s > DATABASE_AWAY_S,
            )
            return Outcome(claim.end) if isinstance(claim, NotClaimed) else claim
        _put_back(runtime, run_id, team, wait_s=NOT_SERVED_S if definition is None else 0)
        return Outcome(End.PUT_BACK)
    except DatabaseUnavailable:
        return Outcome(End.DATABASE_AWAY)


def _put_back(runtime: Runtime, run_id: str, team: str, *, wait_s: float) -> None:
    """Let the sweep send the run again. If the database is away, it does so without this."""
    with runtime.db.write() as tx:
        leases.put_back(tx, run_id, team=team, wait_s=wait_s)


def _observe(claim: Claim, *, sent_at: datetime | None) -> None:
    queue = queue_of(attempt=claim.attempt - 1, priority=claim.priority)
    if sent_at is not None:
        metrics.CLAIM.labels(queue).observe(max(0.0, (claim.claimed_at - sent_at).total_seconds()))
    if claim.attempt == 1:
        metrics.START.labels(queue).observe((claim.claimed_at - claim.created_at).total_seconds())


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one claim of a run needs while it is executed."""

    runtime: Runtime
    definition: Definition
    allowed_s: float
    claim: Claim
    journal: RunJournal
    stop: Stop
    patience: Patience


def _execute_claimed(runtime: Runtime, definition: Definition, claim: Claim, report: Report | None) -> Outcome:
    """Execute one attempt while the keeper renews its lease, then send the dispatches that its end has committed."""
    listener = RunProgress(claim, definition, report).handle if report else None
    stream_s = definition.retention.stream_seconds
    stream = RunStream(runtime.publisher, claim.run_id, claim.fence, ttl_s=stream_s, also=listener)
    stream.publish(RUN_STARTED(run_id=claim.run_id, attempt=claim.attempt))
    allowed_s = _allowed_s(runtime, definition, claim)
    left_s = allowed_s - claim.elapsed_s
    with runtime.keeper.keep(
        leases, claim.run_id, fence=claim.fence, left_s=left_s, cancel_requested=claim.cancel_requested
    ) as stop:
        ttl_s = runtime.settings.lease_seconds
        patience = of_attempt(
            runtime.db, stop, left_s=left_s, between=lambda tx: leases.renew_held(tx, claim, ttl_s=ttl_s)
        )
        journal = RunJournal(patience, claim, stream, ttl_s=ttl_s)
        try:
            journal.pending = patience.again(lambda: earlier.decisions(runtime.db, claim))
            with current.within(claim, runtime.db):
                outcome = _converse(_Attempt(runtime, definition, allowed_s, claim, journal, stop, patience))
        except LeaseLost:
            outcome = Outcome(End.LEASE_LOST)
        except DatabaseUnavailable as error:
            # It was away for too long, or this process must end. The next attempt continues after what is written.
            log.error("run left to its lease", error=error)
            return Outcome(End.DATABASE_UNAVAILABLE)
    if outcome.end is End.LEASE_LOST:
        metrics.LEASE_LOSSES.labels("run").inc()
    runtime.dispatcher.send(journal.dispatches)
    return outcome


def _allowed_s(runtime: Runtime, definition: Definition, claim: Claim) -> float:
    """Return the time limit of the run: that of its team or the settings, or its order's if that is shorter."""
    seconds = definition.limits.seconds
    allowed_s = runtime.settings.max_run_seconds if seconds is None else seconds
    return allowed_s if claim.timeout_s is None else min(allowed_s, claim.timeout_s)


def _converse(attempt: _Attempt) -> Outcome:
    """Continue the conversation until the answer, or until the attempt must end. Record how it ended."""
    claim, journal = attempt.claim, attempt.journal
    if claim.losses > leases.SUSPECT:
        return _fail(journal, WorkersLost(losses=claim.losses), because="its process ended")
    if claim.attempt > 1:
        journal.publish_restart()
    else:
        journal.publish_input()
    if claim.refused is not None:
        return _fail(journal, claim.refused, because="the state of its session would be too large")
    try:
        conversation = _conversation(attempt)
        draft = converse(conversation)
        finish_reason = "length" if draft.extra is not None and draft.extra.cut_off else "stop"
        is_json = conversation.answer is not None
        ending = Ending(Status.COMPLETED, [draft], draft.content, finish_reason, usage=draft.usage, is_json=is_json)
        journal.end(ending)
        return Outcome(End.COMPLETED)
    except Paused:
        count = journal.pause()
        return Outcome(End.PAUSED, f"{count} call{'s' * (count > 1)}") if count else Outcome(End.HANDED_OVER)
    except Stopped as stopped:
        return _stopped(attempt, stopped.reason)
    except ModelError as error:
        return _model_failed(attempt, error)
    except (LeaseLost, DatabaseUnavailable):
        raise
    except KeyboardInterrupt:  # in a script
        journal.end(Ending(Status.CANCELLED), because=cancel.BECAUSE)
        raise
    except LimitReached as error:
        return _fail(journal, error, because="the run reached its limit")
    except (InputRefused, OutputRefused, HookFailed) as error:
        return replace(_fail(journal, error, because="a function of the team ended the run"), cause=error.__cause__)
    except AnswerInvalid as error:
        return _fail(journal, error, because="its answer did not fit")
    except DecisionExpired as error:
        return _fail(journal, error, because=decide.TOO_LATE)
    except ReplayDiverged as error:
        return _fail(journal, error, because="the replay left the path of the run that it repeats")
    except Exception as error:  # noqa: BLE001 - a bug in a definition or here: this run fails, its session continues
        if (exhausted := exhaustion.found(error)) is not None:
            return _put_back_exhausted(journal, claim, exhausted)
        log.error("run failed on an unexpected error", error=error)
        return replace(_fail(journal, TeamSessionsError(), because="the run failed"), cause=error)


def _conversation(attempt: _Attempt) -> Conversation:
    runtime, definition, claim = attempt.runtime, attempt.definition, attempt.claim
    session_history = SessionHistory(runtime.db, claim, attempt.patience)
    own, settings = definition.limits, runtime.settings
    context_tokens = own.context_tokens if own.context_tokens is not None else settings.context_tokens
    return Conversation(
        definition=definition,
        model=definition.model or default_model(runtime.settings),
        limits=replace(
            own,
            turns=own.turns if own.turns is not None else settings.max_turns,
            tool_calls=own.tool_calls if own.tool_calls is not None else settings.max_tool_calls,
            context_tokens=context_tokens,
        ),
        history=session_history.history(definition, context_tokens=context_tokens),
        journal=attempt.journal,
        history_reader=session_history,
        ask=partial(runtime.ask, run_id=claim.run_id),
        coroutines=runtime.coroutines,
        stop=attempt.stop,
        run_id=claim.run_id,
        session_id=claim.session_id,
        user_id=claim.user_id,
        created_at=claim.created_at,
        dependencies={**definition.dependencies, **claim.options.dependencies},
        shows_dependencies=claim.options.add_dependencies_to_context,
        metadata=claim.metadata,
        pending_s=settings.pending_seconds,
        answer=answer.of_run(claim.options, definition),
        silence_s=silence_limit(settings.model_silence_seconds, failures=claim.retries),
        model_retries=_model_retries(attempt),
        recorded=attempt.patience.again(lambda: earlier.results(runtime.db, claim.replay)),
        decided=attempt.patience.again(lambda: earlier.decided_then(runtime.db, claim.replay)),
        gives_up=lambda error: _retry_wait_s(attempt, error) is None,
    )


def _stopped(attempt: _Attempt, reason: Reason) -> Outcome:
    journal = attempt.journal
    match reason:
        case Reason.CANCELLED:
            journal.end(Ending(Status.CANCELLED), because=cancel.BECAUSE)
            return Outcome(End.CANCELLED)
        case Reason.DEADLINE:
            option = "the run's timeout, or Limits(seconds=…)"
            error = LimitReached(limit=f"{attempt.allowed_s:g}", what="seconds", option=option)
            return _fail(journal, error, because="the run's time was over")
        case Reason.HANDED_OVER:
            journal.requeue(wait_s=None, retried=False)
            return Outcome(End.HANDED_OVER)
        case Reason.LEASE_LOST:
            return Outcome(End.LEASE_LOST)


def _model_failed(attempt: _Attempt, error: ModelError) -> Outcome:
    """Requeue the run with a backoff, which ends at the run's time limit at the latest.

    Fail the run if a retry cannot help, or after too many retries in a row without a new message.
    """
    claim, journal = attempt.claim, attempt.journal
    wait_s = _retry_wait_s(attempt, error)
    if wait_s is None:
        return _fail(journal, error, because="the model failed")
    wait_s = min(wait_s, max(0.0, attempt.allowed_s - claim.elapsed_s))
    at = journal.requeue(wait_s=wait_s, waits_for=error.code, retried=error.counted)
    journal.publish(RUN_REQUEUED(run_id=claim.run_id, reason=error.code, not_before=rfc3339(at)))
    return Outcome(End.WAITS, error.code)


def _put_back_exhausted(journal: RunJournal, claim: Claim, error: WorkerExhausted) -> Outcome:
    """Give the run to another worker, or to this one when it has threads and file handles again."""
    at = journal.requeue(wait_s=EXHAUSTED_S, waits_for=error.code, retried=False)
    journal.publish(RUN_REQUEUED(run_id=claim.run_id, reason=error.code, not_before=rfc3339(at)))
    return Outcome(End.WAITS, error.code)


def _retry_wait_s(attempt: _Attempt, error: ModelError) -> float | None:
    """Return the seconds after which the run is retried; None: it is not."""
    claim = attempt.claim
    progressed = len(attempt.journal.log) > claim.last_seq - claim.first_seq + 1
    failures = 0 if progressed else claim.retries
    return BACKOFF.wait_s(error, failures=failures, max_failures=_model_retries(attempt))


def _model_retries(attempt: _Attempt) -> int:
    own = attempt.definition.limits.model_retries
    return attempt.runtime.settings.model_retries if own is None else own


def _fail(journal: RunJournal, error: TeamSessionsError, *, because: str) -> Outcome:
    excluded = isinstance(error, InputRefused)  # no later context may have it
    ending = Ending(Status.FAILED, error=RunError(error.code, error.message), excluded=excluded)
    journal.end(ending, because=because)
    return Outcome(End.FAILED, error.code)


def _execute_isolated(runtime: Runtime, run_id: str, team: str) -> Outcome:
    """Execute a run that may crash its process in an isolated process. Put the run back if too many of them run."""
    assert runtime.isolated is not None
    exit_code = runtime.isolated.execute(run_id, team, stopping=lambda: runtime.keeper.handing_over)
    if exit_code is None:
        with suppress(DatabaseUnavailable):
            _put_back(runtime, run_id, team, wait_s=NO_PROCESS_S)
        return Outcome(End.NO_PROCESS)
    metrics.RUNS_ISOLATED.labels("killed" if exit_code else "ended").inc()
    log.info("executed in a process of its own", exit_code=exit_code)
    return Outcome(End.ISOLATED, f"exit code {exit_code}")
