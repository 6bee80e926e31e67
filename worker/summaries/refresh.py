"""The story of a summary, from the bell to its new version.

A delivery names a session. Take its job if it is free and this process has a slot (`store.summary_jobs`), keep its
lease, and build versions until what was asked for is covered: the summary so far and the next piece of the finished
messages behind it go to the model, and its answer becomes the next version, if nobody else was first
(`store.summaries`). A rebuild (`summaries.draft`) begins in front of the first message, keeps what it has in its job's
row, and makes one version of it in the end. A piece that was stored is not made again. Nothing here holds up a run.
"""

import random
from dataclasses import dataclass, replace

from worker.domain.chat import ChatModel, ChatRequest, Reply
from worker.domain.message import Message
from worker.domain.retention import lifetimes
from worker.domain.stop import Reason, Stop, Stopped
from worker.domain.summary import CHARS_PER_TOKEN, SessionSummaryManager, SummaryDraft
from worker.domain.text import ID_LIMIT
from worker.errors import DatabaseUnavailable, LimitReached, ModelEmptyReply, ModelError, TeamSessionsError
from worker.loop.definition import Definition
from worker.models.default import default_model
from worker.observe import logs, metrics, tracing
from worker.process.runtime import Runtime
from worker.store import messages, runs, summaries, summary_jobs
from worker.store.messages import Part
from worker.store.summaries import Base, Covered, NewVersion
from worker.store.summary_jobs import Job, Wanted
from worker.summaries import condense, draft, due

log = logs.get(__name__)

NOT_SERVED_S = 5.0  # how long a job waits that was delivered to a worker without its team
BACKOFF_S = (2.0, 600.0)  # the first wait and the longest, doubling between; Retry-After goes before both
FULL = "no free slot"
READ = 400  # messages read for one piece, at most


def refresh(runtime: Runtime, session_pk: int, team: str) -> str:
    """Refresh a session's summary, and say in a few words, without message text, how it went."""
    if runtime.keeper.handing_over:
        return "stopping"
    if not runtime.summary_slots.acquire():
        return FULL
    try:
        with logs.bound(session_pk=session_pk):
            return _taken(runtime, session_pk, runtime.teams.get(team))
    except DatabaseUnavailable as error:
        log.error("summary left to its lease", session_pk=session_pk, error=error)
        return "database unavailable"
    finally:
        runtime.summary_slots.release()
        feed(runtime)


def feed(runtime: Runtime) -> None:
    """Send as many waiting jobs as this process has free slots: what was dropped, lost, given up, or waits no longer.

    After each refresh, and with each sweep; best effort.
    """
    free = runtime.summary_slots.free
    if not free or not runtime.teams or runtime.keeper.handing_over:
        return
    try:
        with runtime.db.write() as tx:
            ready = summary_jobs.take_ready(tx, teams=runtime.teams, limit=free)
    except DatabaseUnavailable:
        return
    runtime.dispatcher.send(ready)


def _taken(runtime: Runtime, session_pk: int, definition: Definition | None) -> str:
    ttl_s = runtime.settings.lease_seconds
    with runtime.db.write() as tx:
        if definition is None:
            summary_jobs.put_back(tx, session_pk, wait_s=NOT_SERVED_S)
            return "not served"
        job = summary_jobs.claim(tx, session_pk, owner=runtime.owner, ttl_s=ttl_s)
    if job is None:
        return "nothing to do"
    left_s = runtime.settings.max_run_seconds
    with (
        tracing.summary(definition.id) as span,
        runtime.keeper.keep(summary_jobs, session_pk, fence=job.fence, left_s=left_s) as stop,
    ):
        try:
            _link_to_run(runtime, session_pk, span)
            with metrics.timed(metrics.SUMMARY_REFRESH):
                return _refreshed(runtime, job, definition, stop)
        except Stopped as stopped:
            return _stopped(runtime, job, stopped.reason)
        except ModelError as error:
            span.fail(error.code)
            return _failed(runtime, job, error)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in a model of the user's or in us
            span.fail(TeamSessionsError.code)
            log.error("summary failed on an unexpected error", error=error)
            metrics.SUMMARY_FAILURES.labels(TeamSessionsError.code).inc()
            with runtime.db.write() as tx:
                summary_jobs.fail(tx, job, code=TeamSessionsError.code, wait_s=None)
            return "failed: internal"


def _link_to_run(runtime: Runtime, session_pk: int, span: tracing.Span) -> None:
    """Link the refresh to the newest run that its summary will cover."""
    if not tracing.is_on():
        return
    with runtime.db.read() as tx:
        base = summaries.base(tx, session_pk)
        newest = None if base is None else runs.run_trace(tx, session_pk, position=base.finished_position)
    if newest is not None:
        tracing.covers(span, newest)


def _refreshed(runtime: Runtime, job: Job, definition: Definition, stop: Stop) -> str:
    """Build one version after the other, until what was asked for is covered."""
    manager = definition.session_summary_manager
    model = manager.model or definition.model or default_model(runtime.settings)
    made_by = {"model": model.id[:ID_LIMIT], "prompt_hash": condense.prompt_hash(manager.session_summary_prompt)}
    keep = lifetimes(definition.retention, runtime.settings).versions
    versions = 0
    while True:
        stop.check(boundary=True)
        with runtime.db.read() as tx:
            base = summaries.base(tx, job.session_pk)
            if base is None:
                return "gone"
            wanted = summary_jobs.wanted(tx, job)
            if wanted is None:
                raise Stopped(Reason.LEASE_LOST)
            so_far = draft.begin(base, wanted, **made_by)
            place = {"session_pk": job.session_pk, "after_seq": so_far.covers_seq, "through_seq": base.finished_seq}
            behind = messages.to_condense(tx, **place, limit=READ, cut=condense.LINE_LIMIT + 1)
        piece = _piece(runtime, base, behind)
        reply = _ask(runtime, model, manager, so_far.text, piece.messages, stop) if piece.messages else None
        so_far = _grown(so_far, piece, reply)
        if not draft.is_version(so_far, base, wanted):
            _keep(runtime, job, so_far)
            continue
        versions += so_far.pieces > 0
        if _store(runtime, job, base, wanted, so_far, keep=keep):
            return f"{versions} new" if versions else "nothing to condense"


@dataclass(frozen=True, slots=True)
class _Piece:
    messages: list[Message]
    covered: Covered


def _piece(runtime: Runtime, base: Base, behind: list[Part]) -> _Piece:
    """Return the first messages of *behind* that fit, and what they cover: what was rolled back between them too."""
    told = [part for part in behind if not part.excluded]
    said = [part.message for part in told]
    count = condense.piece(said, size=_piece_size(runtime)) if said else 0
    if count == len(told) and len(behind) < READ:  # nothing is left but messages that no summary holds
        return _Piece(said, Covered(base.finished_seq, base.finished_position, _size(behind, base, base.finished_seq)))
    last = behind[-1] if count == len(told) else told[count - 1]
    through_seq = last.message.seq
    return _Piece(said[:count], Covered(through_seq, last.position, _size(behind, base, through_seq)))


def _size(behind: list[Part], base: Base, through_seq: int) -> int:
    """Return how many characters of *behind*, through a message, the current summary does not cover."""
    return sum(part.size for part in behind if base.covers_seq < part.message.seq <= through_seq)


def _piece_size(runtime: Runtime) -> int:
    return runtime.settings.summary_piece_tokens * CHARS_PER_TOKEN


def _ask(
    runtime: Runtime, model: ChatModel, manager: SessionSummaryManager, so_far: str, said: list[Message], stop: Stop
) -> Reply:
    request = ChatRequest(
        messages=condense.context(manager.session_summary_prompt, so_far, said, size=_piece_size(runtime)),
        answer_schema=condense.SCHEMA,
        silence_s=runtime.settings.model_silence_seconds,
    )
    return runtime.ask(model, request, lambda _delta: None, stop=stop)


def _grown(so_far: SummaryDraft, piece: _Piece, reply: Reply | None) -> SummaryDraft:
    """Return what there is with this piece; without a reply it held nothing to say."""
    covered = piece.covered
    grown = replace(so_far, covers_seq=covered.seq, covers_position=covered.position, size=so_far.size + covered.size)
    if reply is None:
        return grown
    text, topics = condense.read(reply.content)
    if not text:
        raise ModelEmptyReply(model=so_far.model)
    usage = so_far.usage + reply.usage
    return replace(grown, text=text, topics=topics, pieces=so_far.pieces + 1, usage=usage)


def _keep(runtime: Runtime, job: Job, so_far: SummaryDraft) -> None:
    """Keep what a rebuild has so far, if this process still has the job."""
    with runtime.db.write() as tx:
        if not summary_jobs.keep(tx, job, so_far, ttl_s=runtime.settings.lease_seconds):
            raise _refused()


def _store(runtime: Runtime, job: Job, base: Base, wanted: Wanted, new: SummaryDraft, *, keep: int) -> bool:
    """Store the version, if this process still has the job and the summary still is what it was built from.

    The newest *keep* versions stay. Returns whether the job is done: what was asked for is covered, and no more has
    become due meanwhile.
    """
    settings, through_seq = runtime.settings, new.covers_seq
    covered = Covered(through_seq, new.covers_position, new.size)
    with runtime.db.write() as tx:
        left = summaries.cover(tx, job.session_pk, base, covered, new_version=new.pieces > 0)
        if left is None:
            raise _refused()
        if new.pieces:
            summaries.add(tx, job.session_pk, _version(base, new), keep=keep)
        wanted_seq = left.finished_seq if due.passed(left.due, left.finished_seq - through_seq, left.size) else 0
        reached = {"through_seq": through_seq, "wanted_seq": wanted_seq}
        done = summary_jobs.done(tx, job, **reached, rebuilt=wanted.rebuild, ttl_s=settings.lease_seconds)
        if done is None:
            raise _refused()
    metrics.SUMMARY_VERSIONS.inc(new.pieces > 0)
    return done


def _refused() -> Stopped:
    """Count a write that was refused, since another process has the job or made a version, and return what to raise."""
    metrics.REFUSED_WRITES.labels("summary").inc()
    return Stopped(Reason.LEASE_LOST)


def _version(base: Base, new: SummaryDraft) -> NewVersion:
    return NewVersion(base.version + 1, new.covers_seq, new.text, new.topics, new.model, new.prompt_hash, new.usage)


def _stopped(runtime: Runtime, job: Job, reason: Reason) -> str:
    if reason is Reason.LEASE_LOST:
        metrics.LEASE_LOSSES.labels("summary").inc()
        return "overtaken"
    with runtime.db.write() as tx:
        if reason is Reason.HANDED_OVER:
            summary_jobs.give_back(tx, job)
        else:
            summary_jobs.fail(tx, job, code=LimitReached.code, wait_s=BACKOFF_S[1])
    return reason.value


def _failed(runtime: Runtime, job: Job, error: ModelError) -> str:
    """Have the job wait and try again; mark it as failed where that cannot help, or did not for long."""
    with runtime.db.write() as tx:
        standing = summary_jobs.standing(tx, job.session_pk)  # a piece that was stored has begun to count anew
        wait_s = _wait_s(runtime, error, failures=standing.failures if standing else 0)
        summary_jobs.fail(tx, job, code=error.code, wait_s=wait_s, counted=error.counted)
    metrics.SUMMARY_FAILURES.labels(error.code).inc()
    log.warning("summary failed", code=error.code, again=wait_s is not None)
    return f"failed: {error.code}"


def _wait_s(runtime: Runtime, error: ModelError, *, failures: int) -> float | None:
    """Return for how long to wait after so many failures in a row; None: for good."""
    failures = failures if error.counted else 0
    if not error.retry or (error.counted and failures >= runtime.settings.model_retries):
        return None
    if error.retry_after_s is not None:
        return error.retry_after_s
    first, longest = BACKOFF_S
    return min(longest, first * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
