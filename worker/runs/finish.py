"""End the head of a session, in one transaction: its last messages, its status, the next head.

Whoever ends it, the process that executed it or one that cancels it, does so here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.domain.message import Draft, Message
from worker.domain.run import Dispatch, RunError, Status, queue_of
from worker.domain.usage import Usage
from worker.errors import LeaseLost
from worker.store import leases, messages, runs, sessions
from worker.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends: its last messages, and what they used."""

    status: Status
    drafts: Sequence[Draft] = ()
    output: str | None = None
    error: RunError | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Head:
    """The run that ends, as its claim says, or as the one found it who holds the session's lock."""

    run_id: str
    session_pk: int
    session_id: str
    team: str
    position: int
    fence: int
    status: Status


def end_head(tx: Transaction, head: Head, ending: Ending) -> tuple[list[Message], tuple[Dispatch, ...]]:
    """End the run if its fence and status are still those of *head*.

    Returns its last messages, and the dispatch of the next head, to be sent after the commit.

    Raises:
        LeaseLost: another process has claimed or ended it; nothing is written.
    """
    last_seq = sessions.advance(tx, head.session_pk, messages=len(ending.drafts))
    ended = last_seq is not None and runs.end(
        tx,
        run_id=head.run_id,
        held=leases.still_held(head.fence, head.status),
        status=ending.status,
        first_written=last_seq - len(ending.drafts) + 1,
        last_seq=last_seq,
        output=ending.output,
        error=ending.error,
        usage=ending.usage,
    )
    if last_seq is None or not ended:
        raise LeaseLost(run_id=head.run_id, fence=head.fence)
    written = messages.append(tx, ending.drafts, session_pk=head.session_pk, run_id=head.run_id, last_seq=last_seq)
    return written, _pass_on(tx, head, last_seq=last_seq)


def _pass_on(tx: Transaction, head: Head, *, last_seq: int) -> tuple[Dispatch, ...]:
    """Make the next queued run the head; the inputs of runs that ended while queued take their place in the history."""
    next_id, run_count = sessions.move_head(tx, head.session_pk, behind=head.position)
    following = runs.mark_dispatched(tx, next_id) if next_id is not None else None
    before = following.position if following else run_count + 1
    if before > head.position + 1:
        passed = messages.append_inputs(
            tx, session_pk=head.session_pk, after=head.position, before=before, last_seq=last_seq
        )
        sessions.advance(tx, head.session_pk, messages=passed)
    if next_id is None or following is None or following.sent_at is None:
        return ()
    queue = queue_of(attempt=following.attempt)
    return (Dispatch(next_id, head.session_id, head.team, following.attempt, queue, following.sent_at),)
