"""Attempts that a state machine controls: at the door of the model, and at the statements and commits of a process."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from tests.support.driver import listen
from tests.support.outcomes import execute
from worker.domain import ChatRequest, Reply
from worker.process.runtime import Runtime

SETTLE_S = 10.0

_of_thread = threading.local()


class Crash(BaseException):
    """The process is gone: nothing after this point happens."""


@dataclass
class Attempt:
    """One delivery, executed by one process on a thread."""

    number: int
    run_id: str
    runtime: Runtime
    fence: int | None = None
    answer: Any = None
    asked: bool = False
    outcome: str | None = None
    crash_at_commit: int = 0
    fail_at_commit: int = 0
    commit_first: bool = False  # it fails after it happened: the answer is lost
    hold_at: int = 0  # statements from now, the last of which is held
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def alive(self) -> bool:
        return self.outcome is None

    def start(self) -> None:
        """Execute the delivery on a thread, until it is done or the process is gone."""

        def work() -> None:
            _of_thread.attempt = self
            try:
                self.outcome = self.work()
            except Crash:
                self.outcome = "crashed"

        threading.Thread(target=work, daemon=True).start()

    def work(self) -> str:
        """Do what the delivery says."""
        return execute(self.runtime, self.run_id, "t")

    def settle(self, *, within_s: float = SETTLE_S) -> None:
        """Wait until it stands at the model's door again, or is done; a short time allows that it waits for a lock."""
        deadline = time.monotonic() + within_s
        while self.alive and time.monotonic() < deadline:
            if self.asked and self.answer is None:
                return
            time.sleep(0.001)
        if self.alive and within_s >= SETTLE_S:
            raise AssertionError(f"attempt {self.number} neither asks nor ends")


@dataclass
class GatedModel:
    """A model that answers when the machine says so, and what it says."""

    attempt: Attempt
    note_ask: Callable[[Attempt, ChatRequest], None]
    id: str = "gated"

    async def reply(self, request: ChatRequest, on_delta: Any) -> Reply:
        attempt = self.attempt
        self.note_ask(attempt, request)
        attempt.asked = True
        while attempt.answer is None:
            await asyncio.sleep(0.001)
        answer, attempt.asked = attempt.answer, False
        attempt.answer = None  # last: `settle` takes an attempt that has asked and has no answer for one that waits
        if isinstance(answer, BaseException):
            raise answer
        return answer


def control(engine: Engine) -> None:
    """Let attempts crash or fail at a commit of this engine, or be held before any of their statements."""

    def before_statement(*_: Any) -> None:
        attempt: Attempt | None = getattr(_of_thread, "attempt", None)
        if attempt is not None and attempt.hold_at:
            attempt.hold_at -= 1
            if attempt.hold_at == 0:
                attempt.held.set()
                attempt.release.wait(SETTLE_S)

    if engine.dialect.name == "sqlite":  # at BEGIN: one that stalls behind it holds the lock of all writers
        event.listen(engine, "before_cursor_execute", before_statement)
    else:
        listen(engine, before=before_statement)

    @event.listens_for(engine, "commit")
    def before_commit(connection: Connection) -> None:
        attempt: Attempt | None = getattr(_of_thread, "attempt", None)
        if attempt is not None and attempt.crash_at_commit:
            attempt.crash_at_commit -= 1
            if attempt.crash_at_commit == 0:
                raise Crash
        if attempt is not None and attempt.fail_at_commit:
            attempt.fail_at_commit -= 1
            if attempt.fail_at_commit == 0:
                if attempt.commit_first:
                    driver: Any = connection.connection.dbapi_connection
                    driver.commit()
                raise OperationalError("COMMIT", None, ConnectionError("the database is away"))
