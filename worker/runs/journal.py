"""What the executing process writes for its run. Every write checks the fence in its own transaction.

Each transaction does the same in order: lock the session, check the run's fence and status, assign seqs, write. Without
the lock, the next claimer would not see a reply that is not committed yet, and would pay for it again. Events are
published after the commit.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from worker import clock
from worker.domain import (
    NO_CHANGE,
    Claim,
    Dispatch,
    Draft,
    Message,
    PendingCall,
    StateChange,
    Status,
    Usage,
    message_completed,
    message_id,
    run_dispatch,
    size_of,
    terminal_event,
)
from worker.domain.event import MESSAGE_RESTARTED, RUN_PAUSED
from worker.domain.pending import Question, key_of
from worker.events.publish import RunStream
from worker.loop.unanswered import unanswered
from worker.observe import metrics
from worker.process.patience import Patience
from worker.runs.finish import Ending, Head, end_head, refused
from worker.store import Transaction, leases, messages, pending_calls, runs, sessions


class RunJournal:
    """The messages of one claimed run, and the only way to add to them. Safe to use from several threads.

    Each write waits with *patience* while the database is away. What is written at all is written once.
    """

    def __init__(self, patience: Patience, claim: Claim, stream: RunStream, *, ttl_s: float) -> None:
        self._patience = patience
        self._claim = claim
        self._stream = stream
        self.publish = stream.publish
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self.log = list(claim.log)
        self.usage = claim.usage
        self.state = claim.state
        self.pending: dict[str, PendingCall] = {}
        self.dispatches: tuple[Dispatch, ...] = ()

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        """Write messages, and what they change in the session's state, all or none; renew the lease with it.

        Raises:
            LeaseLost: another process has claimed the run; nothing is written.
            DatabaseUnavailable: the process gave up; the next claim reads whether anything is written.
        """
        used = sum((d.usage for d in drafts), Usage())
        claim = self._claim
        session_pk, run_id = claim.session_pk, claim.run_id

        def write(tx: Transaction) -> tuple[list[Message], dict[str, Any]]:
            begun = clock.monotonic()
            last_seq = self._hold(tx, drafts, usage=used)
            written = messages.append(tx, drafts, session_pk=session_pk, run_id=run_id, last_seq=last_seq)
            if clock.monotonic() - begun > self._ttl_s / 3:  # it waited for a lock after it had renewed the lease
                leases.renew_held(tx, claim, ttl_s=self._ttl_s)
            return written, sessions.change_state(tx, session_pk, change) if change else self.state

        def committed(tx: Transaction, result: tuple[list[Message], dict[str, Any]]) -> bool:
            run = self._held(tx)
            return run is not None and run.last_seq == result[0][-1].seq

        with self._lock:
            written, self.state = self._patience.write(write, committed=committed)
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

        def committed(tx: Transaction, _new: bool) -> bool:
            return self._held(tx) is not None and leases.is_start_recorded(tx, idempotency_key)

        with self._lock:
            return self._patience.write(record, committed=committed)

    def record_pending(self, idempotency_key: str, question: Question) -> PendingCall:
        """Record that a call waits for a decision, unless it is recorded, and return how it stands.

        Raises:
            LeaseLost, DatabaseUnavailable
        """
        run_id = self._claim.run_id

        def record(tx: Transaction) -> PendingCall:
            self._hold(tx, (), usage=Usage())
            return pending_calls.record(tx, run_id=run_id, idempotency_key=idempotency_key, question=question)

        def committed(tx: Transaction, call: PendingCall) -> bool:
            return self._held(tx) is not None and call.id in {known.id for known in pending_calls.of_run(tx, run_id)}

        with self._lock:
            call = self._patience.write(record, committed=committed)
            self.pending[idempotency_key] = call
        return call

    def pause(self) -> int:
        """Give the run up until a call is decided; return how many wait. 0: one is decided, and the run is queued.

        That is seen under the lock that a decision takes, so no run stays paused after a decision.

        Raises:
            LeaseLost, DatabaseUnavailable
        """
        claim = self._claim
        known = {key for key, call in self.pending.items() if call.is_open}

        def pause(tx: Transaction) -> tuple[list[str], datetime | None]:
            sessions.advance(tx, claim.session_pk, messages=0)
            waiting = pending_calls.of_run(tx, claim.run_id)
            decided = any(key_of(call.id) in known and not call.is_open for call in waiting)
            at = leases.requeue(tx, claim, wait_s=None, waits_for=None, retried=False) if decided else None
            if at is None and not leases.pause(tx, claim):
                raise refused(claim.run_id, fence=claim.fence)
            return [call.id for call in waiting if call.is_open], at

        def committed(tx: Transaction, result: tuple[list[str], datetime | None]) -> bool:
            run = self._lock_run(tx)
            fence = claim.fence + int(result[1] is None)
            return run is not None and (run.fence, run.status) == (fence, Status.QUEUED)

        with self._lock:
            waiting, at = self._patience.write(pause, committed=committed)
        if at is not None:
            self.dispatches = (self._again(at),)
            return 0
        self._stream.pause(RUN_PAUSED(run_id=claim.run_id, pending=waiting))
        return len(waiting)

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
            if self.pending and because is None:
                pending_calls.close(tx, claim.run_id)  # a call of a tool that is gone has had its result
            if because is None or sessions.lock_of_run(tx, claim.run_id) is None:
                return end_head(tx, head, ending)
            self.log = messages.of_run_by_id(tx, claim.run_id)
            never_made = pending_calls.close(tx, claim.run_id) if self.pending else set()
            drafts = unanswered(self.log, because=because, never_made=never_made)
            return end_head(tx, head, replace(ending, drafts=drafts))

        def committed(tx: Transaction, _ended: object) -> bool:
            run = self._lock_run(tx)
            return run is not None and (run.fence, run.status) == (claim.fence + 1, ending.status)

        with self._lock:
            written, self.dispatches = self._patience.write(end, committed=committed)
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

        def committed(tx: Transaction, _at: datetime) -> bool:
            run = self._lock_run(tx)
            return run is not None and (run.fence, run.status) == (claim.fence, Status.QUEUED)

        with self._lock:
            at = self._patience.write(requeue, committed=committed)
        if wait_s is None:
            self.dispatches = (self._again(at),)
        return at

    def _again(self, sent_at: datetime) -> Dispatch:
        claim = self._claim
        return run_dispatch(
            claim.run_id,
            session_id=claim.session_id,
            team=claim.team,
            attempt=claim.attempt,
            sent_at=sent_at,
            priority=claim.priority,
        )

    def publish_input(self) -> None:
        """Publish that the run's input is in the history."""
        self.publish(message_completed(self.log[0], index=0))

    def publish_restart(self) -> None:
        """Publish that the unfinished messages of the last attempt, of leader and members, start again."""
        for delegation in dict.fromkeys(m.delegation for m in self.log):
            index = sum(m.delegation == delegation for m in self.log)
            self.publish(MESSAGE_RESTARTED(message_id=message_id(delegation, index)))

    def _lock_run(self, tx: Transaction) -> runs.Unfinished | None:
        """Take the locks that every write takes, and return the run; None: it is gone."""
        run_id = self._claim.run_id
        return None if sessions.lock_of_run(tx, run_id) is None else runs.lock(tx, run_id)

    def _held(self, tx: Transaction) -> runs.Unfinished | None:
        """Lock and return the run; None: another process has claimed it, or it has ended."""
        run = self._lock_run(tx)
        mine = run is not None and (run.fence, run.status) == (self._claim.fence, Status.RUNNING)
        return run if mine else None

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
