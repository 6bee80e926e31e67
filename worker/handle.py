"""`team.enqueue()`: a run for the workers, and the handle by which its caller follows it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from worker import clock
from worker.db import Db
from worker.domain import SERVICE, Decision, Dispatch, Event, Run, Status
from worker.errors import RunNotFound
from worker.events.follow import Follower
from worker.runs.cancel import cancel
from worker.runs.decide import decide
from worker.runs.unfinished import UnfinishedRuns
from worker.runs.watch import watch
from worker.store import pending_calls, runs

POLL_S = 0.1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunHandle:
    """A run that workers execute: `status`, `wait`, `stream`, `cancel`. `run_id` is the run's `id` in the API."""

    db: Db
    run_id: str
    session_id: str
    dispatches: tuple[Dispatch, ...] = ()

    def dispatch(self) -> None:
        """Send the run to its queue, after your own transaction's commit. Otherwise the sweep does, within seconds."""
        self.db.runtime.dispatcher.send(self.dispatches)

    @property
    def status(self) -> str:
        """The run's status now."""
        return self.run().status

    def run(self) -> Run:
        """Return the run as it is now.

        Raises:
            RunNotFound: it was erased, or the transaction that it was enqueued in is not committed.
        """
        with self.db.runtime.db.read() as tx:
            run = runs.get(tx, self.run_id, principal=SERVICE)
            if run is None:
                raise RunNotFound(run_id=self.run_id)
            return pending_calls.attached(tx, [run])[0]

    def wait(self, timeout: float) -> Run:
        """Return the run as soon as it has ended or paused, at the latest after *timeout* seconds, as it is then."""
        deadline = clock.monotonic() + timeout
        while (run := self.run()).status in (Status.QUEUED, Status.RUNNING) and clock.monotonic() < deadline:
            time.sleep(POLL_S)
        return run

    def decide(self, decisions: Sequence[Decision], *, approver: str | None = None) -> Run:
        """Decide about calls that the run waits for, and return the run. It goes on at once with what is decided.

        Raises:
            PendingNotFound, AlreadyDecided, RunNotPaused, DecisionInvalid, WorkersTooOld: nothing is written.
        """
        run, dispatches = decide(self.db.runtime.db, self.run_id, decisions, approver=approver)
        self.db.runtime.dispatcher.send(dispatches)
        return run

    def cancel(self) -> Run:
        """Request the run's cancellation, and return the run."""
        run, dispatches = cancel(self.db.runtime.db, self.run_id)
        self.db.runtime.dispatcher.send(dispatches)
        return run

    def stream(self) -> Iterator[Event]:
        """Yield the run's events as they happen, up to the terminal one."""
        runtime = self.db.runtime
        follower = Follower(runtime.settings.broker, prefix=runtime.settings.queue_prefix)
        events = watch(runtime.db, follower, UnfinishedRuns(runtime.db), self.run())
        with asyncio.Runner() as runner:
            try:
                while True:
                    happened = runner.run(_next(events))
                    if happened is not None:
                        yield happened[1]
            except StopAsyncIteration:
                return
            finally:
                runner.run(events.aclose())
                runner.run(follower.close())


async def _next(events: AsyncIterator[T]) -> T:
    return await anext(events)
