"""End the head of a session, in one transaction: its last messages, its status, the next head, a summary if it is due.

Both the process that executed the run and one that cancels it end it here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.domain import Dispatch, Draft, Message, RunError, Status, Usage, run_dispatch, size_of
from worker.errors import LeaseLost
from worker.observe import metrics
from worker.store import Transaction, messages, runs, sessions
from worker.summaries import due


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends: its last messages, and what they used."""

    status: Status
    drafts: Sequence[Draft] = ()
    output: str | None = None
    finish_reason: str | None = None
    error: RunError | None = None
    usage: Usage = Usage()
    is_json: bool = False  # the output fits a schema
    excluded: bool = False  # left out of later contexts and summaries


@dataclass(frozen=True, slots=True)
class Head:
    """The run that ends: as its claim has it, or as it was read under the session's lock."""

    run_id: str
    session_pk: int
    session_id: str
    team: str
    position: int
    fence: int
    status: Status


def end_head(tx: Transaction, head: Head, ending: Ending) -> tuple[list[Message], tuple[Dispatch, ...]]:
    """End the run if its fence and status are still those of *head*.

    Returns its last messages, and the dispatches to send after the commit: of the next head, and of a due summary.

    Raises:
        LeaseLost: another process has claimed or ended it; nothing is written.
    """
    last_seq = sessions.advance(tx, head.session_pk, messages=len(ending.drafts), size=size_of(ending.drafts))
    if ending.excluded:
        runs.exclude(tx, head.run_id)
    ended = last_seq is not None and runs.end(
        tx,
        run_id=head.run_id,
        held=(head.fence, head.status),
        status=ending.status,
        first_written=last_seq - len(ending.drafts) + 1,
        last_seq=last_seq,
        output=ending.output,
        finish_reason=ending.finish_reason,
        is_json=ending.is_json,
        error=ending.error,
        usage=ending.usage,
    )
    if last_seq is None or not ended:
        raise refused(head.run_id, fence=head.fence)
    written = messages.append(tx, ending.drafts, session_pk=head.session_pk, run_id=head.run_id, last_seq=last_seq)
    return written, pass_on(tx, head, last_seq=last_seq)


def refused(run_id: str, *, fence: int) -> LeaseLost:
    """Count a write that the fence refused, and return what to raise."""
    metrics.REFUSED_WRITES.labels("run").inc()
    return LeaseLost(run_id=run_id, fence=fence)


def pass_on(tx: Transaction, head: Head, *, last_seq: int) -> tuple[Dispatch, ...]:
    """Make the first queued run after *head* the head, and add the inputs of runs between that ended while queued.

    *last_seq* is the seq of the session's newest message. Returns the dispatches to send after the commit.
    """
    moved = sessions.move_head(tx, head.session_pk, after=head.position)
    following = runs.mark_dispatched(tx, moved.head_run_id) if moved.head_run_id is not None else None
    before = following.position if following else moved.run_count + 1
    passed = before - head.position - 1
    if passed:
        size = messages.append_inputs(
            tx, session_pk=head.session_pk, after=head.position, before=before, last_seq=last_seq
        )
        sessions.advance(tx, head.session_pk, messages=passed, size=size)
        moved = replace(moved, unsummarised=moved.unsummarised + size)
    dispatches = due.decide(
        tx, head.session_pk, moved, session_id=head.session_id, team=head.team, through_seq=last_seq + passed
    )
    if moved.head_run_id is None or following is None or following.sent_at is None:
        return dispatches
    head_next = run_dispatch(
        moved.head_run_id,
        session_id=head.session_id,
        team=head.team,
        attempt=following.attempt,
        sent_at=following.sent_at,
        priority=following.priority,
    )
    return (head_next, *dispatches)
