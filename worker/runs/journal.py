"""What the executing process writes for its run. Every write checks the fence in its own transaction.

Each transaction does the same in order: lock the session, check the run's fence and status, assign seqs, write. Without
the lock, the next claimer would not see a reply that is not committed yet, and would pay for it again. Events are
published after the commit.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from worker import clock
from worker.domain import (
    NO_CHANGE,
    Claim,
    Dispatch,
    Draft,
    Message,
    StateChange,
    Status,
    Stop,
    Usage,
    message_completed,
    message_id,
    run_dispatch,
    size_of,
    terminal_event,
)
from worker.domain.event import MESSAGE_RESTARTED
from worker.errors import DatabaseUnavailable
from worker.events.publish import RunStream
from worker.loop.unanswered import unanswered
from worker.observe import metrics
from worker.runs.finish import Ending, Head, end_head, refused
from worker.store import Database, Transaction, leases, messages, sessions
from worker.store.engine import was_locked

T = TypeVar("T")


class RunJournal:
    """The messages of one claimed run, and the only way to add to them. Safe to use from several threads."""

    def __init__(self, db: Database, claim: Claim, stream: RunStream, stop: Stop, *, ttl_s: float) -> None:
        self._db = db
        self._claim = claim
        self._stream = stream
        self.publish = stream.publish
        self._stop = stop
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self.log = list(claim.log)
        self.usage = claim.usage
        self.state = claim.state
        self.dispatches: tuple[Dispatch, ...] = ()

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        """Write messages, and what they change in the session's state, all or none; renew the lease with it.

        Raises:
            LeaseLost: another process has claimed the run; nothing is written.
            DatabaseUnavailable: it is not known whether anything is written; the next claim reads it.
        """
        used = sum((d.usage for d in drafts), Usage())
        session_pk, run_id = self._claim.session_pk, self._claim.run_id

        def write(tx: Transaction) -> tuple[list[Message], dict[str, Any]]:
            last_seq = self._hold(tx, drafts, usage=used)
            written = messages.append(tx, drafts, session_pk=session_pk, run_id=run_id, last_seq=last_seq)
            return written, sessions.change_state(tx, session_pk, change) if change else self.state

        with self._lock:
            written, self.state = self._in_transaction(write)
            self.usage += used
            self._add_to_log(written)

    def record_start(self, idempotency_key: str) -> bool:
        """Record that a call that is unsafe to repeat starts; False: its start was recorded before.

        Raises:
            LeaseLost, DatabaseUnavailable
        """

        def record(tx: Transaction) -> bool:
            self._hold(tx, (), usage=Usage())
            return leases.record_start(tx, run_id=self._claim.run_id, idempotency_key=idempotency_key)

        with self._lock:
            return self._in_transaction(record)

    def end(self, ending: Ending, *, because: str | None = None) -> None:
        """End the run; its dispatches are in `dispatches` then.

        *because* says why there is no answer; each tool call without a result gets it as its result. These calls are
        read from the rows, under the lock: a member that has not noticed the end may have just written.

        Raises:
            LeaseLost, DatabaseUnavailable
        """
        claim = self._claim
        head = Head(
            claim.run_id, claim.session_pk, claim.session_id, claim.team, claim.position, claim.fence, Status.RUNNING
        )

        def end(tx: Transaction) -> tuple[list[Message], tuple[Dispatch, ...]]:
            if because is None or sessions.lock_of_run(tx, claim.run_id) is None:
                return end_head(tx, head, ending)
            self.log = messages.of_run_by_id(tx, claim.run_id)
            return end_head(tx, head, replace(ending, drafts=unanswered(self.log, because=because)))

        with self._lock:
            written, self.dispatches = self._in_transaction(end)
            self._add_to_log(written)
        metrics.RUNS_ENDED.labels(claim.team, ending.status).inc()
        if ending.error is not None:
            metrics.RUN_FAILURES.labels(ending.error.code).inc()
        self._stream.end(terminal_event(claim.run_id, ending.status, ending.finish_reason))

    def requeue(self, *, wait_s: float | None, waits_for: str | None = None, retried: bool) -> datetime:
        """Give the run back to the queue with all that it wrote, for any process to continue. It stays the head.

        *waits_for* is the code of the error because of which it waits.

        Raises:
            LeaseLost, DatabaseUnavailable
        """
        claim = self._claim

        def requeue(tx: Transaction) -> datetime:
            sessions.advance(tx, claim.session_pk, messages=0)
            at = leases.requeue(tx, claim, wait_s=wait_s, waits_for=waits_for, retried=retried)
            if at is None:
                raise refused(claim.run_id, fence=claim.fence)
            return at

        with self._lock:
            at = self._in_transaction(requeue)
        if wait_s is None:
            self.dispatches = (
                run_dispatch(
                    claim.run_id,
                    session_id=claim.session_id,
                    team=claim.team,
                    attempt=claim.attempt,
                    sent_at=at,
                    priority=claim.priority,
                ),
            )
        return at

    def publish_input(self) -> None:
        """Publish that the run's input is in the history."""
        self.publish(message_completed(self.log[0], index=0))

    def publish_restart(self) -> None:
        """Publish that the unfinished messages of the last attempt, of leader and members, start again."""
        for delegation in dict.fromkeys(m.delegation for m in self.log):
            index = sum(m.delegation == delegation for m in self.log)
            self.publish(MESSAGE_RESTARTED(message_id=message_id(delegation, index)))

    def _in_transaction(self, write: Callable[[Transaction], T]) -> T:
        """Commit what *write* does. Run it again if the lock of another transaction ended it.

        That transaction was certainly rolled back, and giving up would throw away a reply that is paid for. It runs
        again for as long as a lease lasts, unless a stop is requested while it waits; the fence check decides in any
        case. No other error is retried: after a lost connection it is not known whether the commit happened.
        """
        give_up_at, reason = clock.monotonic() + self._ttl_s, self._stop.reason
        while True:
            try:
                with self._db.write() as tx:
                    return write(tx)
            except DatabaseUnavailable as error:
                if not was_locked(error) or self._stop.reason is not reason or clock.monotonic() > give_up_at:
                    raise

    def _hold(self, tx: Transaction, drafts: Sequence[Draft], *, usage: Usage) -> int:
        """Lock, then check the fence; return the seq that the last of the new messages gets."""
        claim = self._claim
        last_seq = sessions.advance(tx, claim.session_pk, messages=len(drafts), size=size_of(drafts))
        held = last_seq is not None and leases.hold(tx, claim, last_seq=last_seq, usage=usage, ttl_s=self._ttl_s)
        if last_seq is None or not held:
            raise refused(claim.run_id, fence=claim.fence)
        return last_seq

    def _add_to_log(self, written: Sequence[Message]) -> None:
        for message in written:
            index = sum(m.delegation == message.delegation for m in self.log)
            self.log.append(message)
            self.publish(message_completed(message, index=index))
