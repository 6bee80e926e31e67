"""The story of a summary, from its delivery to the new version.

1. A delivery names a session. `refresh` takes a slot of this process, and claims the session's job.
2. While the keeper renews the job's lease, `_build_versions` sends the model the current summary and the next piece
   of the messages that follow it. The answer becomes the next version, unless another process wrote one first.
3. It repeats until the summary covers what the job asks for. Pieces that were stored are never made again.
4. A rebuild (`summaries.draft`) starts before the first message, keeps its draft in the job's row, and becomes one
   version at its end.

No run waits for any of this.
"""

from collections.abc import Callable
from dataclasses import replace

from worker.domain import (
    CHARS_PER_TOKEN,
    ID_LIMIT,
    Backoff,
    ChatModel,
    ChatRequest,
    End,
    Message,
    Outcome,
    Reason,
    SessionSummaryManager,
    Stop,
    Stopped,
    SummaryDraft,
    Usage,
)
from worker.domain.retention import lifetimes
from worker.errors import (
    DatabaseUnavailable,
    LimitReached,
    ModelContextExceeded,
    ModelError,
    SummaryUnusable,
    TeamSessionsError,
)
from worker.loop.definition import Definition
from worker.loop.window import part_that_fits
from worker.models.openai_chat import default_model
from worker.observe import logs, metrics, tracing
from worker.process.patience import Patience, of_attempt
from worker.process.runtime import Runtime
from worker.store import RefreshRequest, Transaction, messages, run_state, sessions, summaries, summary_jobs
from worker.store.messages import Part
from worker.store.summaries import Base
from worker.store.summary_jobs import Job
from worker.summaries import condense, draft, due
from worker.summaries.answer import read

log = logs.get(__name__)

NOT_SERVED_S = 5.0  # how long a job waits after its delivery to a worker without its team
BACKOFF = Backoff(first_s=2.0, longest_s=600.0)
MAX_MESSAGES = 400  # read for one piece


def refresh(runtime: Runtime, session_pk: int, team: str) -> Outcome:
    """Refresh a session's summary, and return how that ended."""
    if runtime.keeper.handing_over:
        return Outcome(End.STOPPING)
    if not runtime.summary_slots.acquire():
        return Outcome(End.NO_SLOT)
    try:
        with logs.bound(session_pk=session_pk):
            return _claim_and_refresh(runtime, session_pk, team)
    except DatabaseUnavailable as error:
        log.error("summary left to its lease", session_pk=session_pk, error=error)
        return Outcome(End.DATABASE_UNAVAILABLE)
    finally:
        runtime.summary_slots.release()
        feed(runtime)


def feed(runtime: Runtime) -> None:
    """Send as many waiting jobs as this process has free slots. Called after each refresh, and by each sweep.

    These are jobs whose delivery was dropped or lost, whose worker gave them back, or whose wait is over. If the
    database or the queue is unavailable, the next sweep sends them.
    """
    free = runtime.summary_slots.free
    if not free or not runtime.teams or runtime.keeper.handing_over:
        return
    try:
        with runtime.db.write() as tx:
            dispatches = summary_jobs.take_ready(tx, teams=runtime.teams, limit=free)
    except DatabaseUnavailable:
        return
    runtime.dispatcher.send(dispatches)


def _claim_and_refresh(runtime: Runtime, session_pk: int, team: str) -> Outcome:
    ttl_s, definition = runtime.settings.lease_seconds, runtime.teams.get(team)
    with runtime.db.write() as tx:
        if definition is None:
            summary_jobs.put_back(tx, session_pk, team=team, wait_s=NOT_SERVED_S)
            return Outcome(End.NOT_SERVED)
        take_over = runtime.contact.is_old()
        job = summary_jobs.claim(tx, session_pk, team=team, owner=runtime.owner, ttl_s=ttl_s, take_over=take_over)
    if job is None:
        return Outcome(End.NOTHING_TO_DO)
    left_s = runtime.settings.max_run_seconds
    with (
        tracing.summary(definition.id) as span,
        runtime.keeper.keep(summary_jobs, session_pk, fence=job.fence, left_s=left_s) as stop,
    ):
        patience = of_attempt(runtime.db, stop, left_s=left_s)
        try:
            _link_trace(runtime, session_pk, span)
            with metrics.timed(metrics.SUMMARY_REFRESH):
                return _build_versions(runtime, job, definition, stop, patience)
        except Stopped as stopped:
            return _stopped(patience, job, stopped.reason)
        except ModelError as error:
            tracing.fail(span, error.code)
            return _model_failed(runtime, patience, job, error)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in a model that the user wrote, or in this package
            tracing.fail(span, TeamSessionsError.code)
            log.error("summary failed on an unexpected error", error=error)
            metrics.SUMMARY_FAILURES.labels(TeamSessionsError.code).inc()
            _give_back(patience, job, lambda tx: summary_jobs.fail(tx, job, code=TeamSessionsError.code, wait_s=None))
            return Outcome(End.FAILED, TeamSessionsError.code)


def _link_trace(runtime: Runtime, session_pk: int, span: tracing.Span) -> None:
    """Link the refresh to the newest run that its summary will cover."""
    if not tracing.is_on():
        return
    with runtime.db.read() as tx:
        base = summaries.base(tx, session_pk)
        newest = None if base is None else run_state.run_trace(tx, session_pk, position=base.finished_position)
    if newest is not None:
        tracing.record_newest_run(span, newest)


def _build_versions(runtime: Runtime, job: Job, definition: Definition, stop: Stop, patience: Patience) -> Outcome:
    """Build one version after another until the summary covers what the job asks for."""
    manager = definition.session_summary_manager
    model = manager.model or definition.model or default_model(runtime.settings)
    prompt_hash = condense.prompt_hash(manager.session_summary_prompt)
    keep_versions = lifetimes(definition.retention, runtime.settings).versions
    versions, size = 0, runtime.settings.summary_piece_tokens * CHARS_PER_TOKEN
    while True:
        stop.check(boundary=True)
        found = patience.again(lambda: _read(runtime, job, model_id=model.id[:ID_LIMIT], prompt_hash=prompt_hash))
        if found is None:
            return Outcome(End.SESSION_GONE)
        base, request, current, parts = found
        piece, extended = _next_piece(parts, base, current, size=size)
        if piece:
            try:
                text, topics, usage = _ask_model(runtime, model, manager, current.text, piece, stop, size=size)
            except ModelContextExceeded as error:
                # Once more with a smaller piece, and so with the pieces after it.
                part = part_that_fits(error, size)
                size = condense.smaller(current.text, piece, size=size, part=part)
                piece, extended = _next_piece(parts, base, current, size=size)
                text, topics, usage = _ask_model(runtime, model, manager, current.text, piece, stop, size=size)
            extended = replace(
                extended, text=text, topics=topics, pieces=current.pieces + 1, usage=current.usage + usage
            )
        if not draft.is_version(extended, base, request):
            _save_draft(patience, job, extended, ttl_s=runtime.settings.lease_seconds)
            continue
        versions += extended.pieces > 0
        if _store_version(runtime, patience, job, base, extended, rebuilt=request.rebuild, keep_versions=keep_versions):
            return Outcome(End.REFRESHED, str(versions)) if versions else Outcome(End.NOTHING_TO_CONDENSE)


def _read(
    runtime: Runtime, job: Job, *, model_id: str, prompt_hash: str
) -> tuple[Base, RefreshRequest, SummaryDraft, list[Part]] | None:
    """Return what the next piece is made from; None: the session is gone.

    Raises:
        Stopped: another process has the job.
    """
    with runtime.db.read() as tx:
        base = summaries.base(tx, job.session_pk)
        if base is None:
            return None
        request = summary_jobs.requested(tx, job)
        if request is None:
            raise Stopped(Reason.LEASE_LOST)
        current = draft.begin(base, request, model=model_id, prompt_hash=prompt_hash)
        parts = messages.to_condense(
            tx,
            session_pk=job.session_pk,
            after_seq=current.covers_through_seq,
            through_seq=base.finished_seq,
            limit=MAX_MESSAGES,
            cut=condense.LINE_LIMIT + 1,
        )
    return base, request, current, parts


def _next_piece(
    parts: list[Part], base: Base, current: SummaryDraft, *, size: int
) -> tuple[list[Message], SummaryDraft]:
    """Return the first messages that fit into *size* characters, and a draft that covers them too.

    Messages of rolled-back runs between them are covered too, but not sent to the model.
    """
    included = [part for part in parts if not part.excluded]
    texts = [part.message for part in included]
    count = condense.piece(texts, size=size) if texts else 0
    if count == len(included) and len(parts) < MAX_MESSAGES:  # only messages without summary text are left
        through_seq, position = base.finished_seq, base.finished_position
    else:
        last = parts[-1] if count == len(included) else included[count - 1]
        through_seq, position = last.message.seq, last.position
    total = current.size + sum(p.size for p in parts if base.covers_through_seq < p.message.seq <= through_seq)
    return texts[:count], replace(current, covers_through_seq=through_seq, covers_position=position, size=total)


def _ask_model(
    runtime: Runtime,
    model: ChatModel,
    manager: SessionSummaryManager,
    summary: str,
    piece: list[Message],
    stop: Stop,
    *,
    size: int,
) -> tuple[str, list[str], Usage]:
    """Return the text and the topics of the summary that the model made of one more piece, and what they cost.

    If the answer has no summary, the model is asked once more without the schema: some servers accept a schema and
    answer worse because of it. The prompt describes the answer too.

    Raises:
        SummaryUnusable: neither answer has a summary.
    """
    request = ChatRequest(
        messages=condense.context(manager.session_summary_prompt, summary, piece, size=size),
        answer_schema=condense.SCHEMA,
        describes_answer=True,
        silence_s=runtime.settings.model_silence_seconds,
    )
    first = runtime.ask(model, request, lambda _delta: None, stop=stop)
    try:
        return (*read(first.content, model=model.id), first.usage)
    except SummaryUnusable:
        plain = replace(request, answer_schema=None)
        second = runtime.ask(model, plain, lambda _delta: None, stop=stop)
        return (*read(second.content, model=model.id), first.usage + second.usage)


def _save_draft(patience: Patience, job: Job, extended: SummaryDraft, *, ttl_s: float) -> None:
    def save(tx: Transaction) -> None:
        if not summary_jobs.save_draft(tx, job, extended, ttl_s=ttl_s):
            raise _write_refused()

    patience.write(save, committed=lambda _tx, _saved: False)  # saving it again changes nothing


def _store_version(
    runtime: Runtime,
    patience: Patience,
    job: Job,
    base: Base,
    new: SummaryDraft,
    *,
    rebuilt: bool,
    keep_versions: int,
) -> bool:
    """Store the version, if this process still has the job and the current summary is still *base*.

    Older versions than the newest *keep_versions* are removed. Returns whether the job is done: the summary covers
    what the job asks for, and no further messages have become due since.
    """

    def store(tx: Transaction) -> bool:
        left = summaries.cover(tx, job.session_pk, base, new)
        if left is None:
            raise _write_refused()
        if new.pieces:
            summaries.add(tx, job.session_pk, base.version + 1, new, keep=keep_versions)
        is_due = due.is_due(left.due, left.finished_seq - new.covers_through_seq, left.size)
        done = summary_jobs.finish(
            tx,
            job,
            through_seq=new.covers_through_seq,
            due_seq=left.finished_seq if is_due else 0,
            rebuilt=rebuilt,
            ttl_s=runtime.settings.lease_seconds,
        )
        if done is None:
            raise _write_refused()
        return done

    def committed(tx: Transaction, _done: bool) -> bool:
        return sessions.lock(tx, job.session_pk) and summaries.is_covered(tx, job.session_pk, base, new)

    done = patience.write(store, committed=committed)
    metrics.SUMMARY_VERSIONS.inc(new.pieces > 0)
    return done


def _write_refused() -> Stopped:
    """Count a write refused because another process has the job or made a version, and return what to raise."""
    metrics.REFUSED_WRITES.labels("summary").inc()
    return Stopped(Reason.LEASE_LOST)


def _give_back(patience: Patience, job: Job, write: Callable[[Transaction], None]) -> None:
    """Give the job back in the way that *write* does it, once."""
    patience.write(write, committed=lambda tx, _none: summary_jobs.is_given_back(tx, job))


def _stopped(patience: Patience, job: Job, reason: Reason) -> Outcome:
    if reason is Reason.LEASE_LOST:
        metrics.LEASE_LOSSES.labels("summary").inc()
        return Outcome(End.OVERTAKEN)

    def write(tx: Transaction) -> None:
        if reason is Reason.HANDED_OVER:
            summary_jobs.give_back(tx, job)
        else:
            summary_jobs.fail(tx, job, code=LimitReached.code, wait_s=BACKOFF.longest_s)

    _give_back(patience, job, write)
    return Outcome(End.HANDED_OVER if reason is Reason.HANDED_OVER else End.DEADLINE)


def _model_failed(runtime: Runtime, patience: Patience, job: Job, error: ModelError) -> Outcome:
    """Let the job wait for its next try; mark it as failed if a retry cannot help or there were too many."""
    again = False

    def write(tx: Transaction) -> None:
        nonlocal again
        state = summary_jobs.state(tx, job.session_pk)  # read again: storing a piece resets its failures
        failures, limit = state.failures if state else 0, runtime.settings.model_retries
        wait_s = BACKOFF.wait_s(error, failures=failures, max_failures=limit)
        summary_jobs.fail(tx, job, code=error.code, wait_s=wait_s, counted=error.counted)
        again = wait_s is not None

    _give_back(patience, job, write)
    metrics.SUMMARY_FAILURES.labels(error.code).inc()
    log.warning("summary failed", code=error.code, again=again)
    return Outcome(End.FAILED, error.code)
