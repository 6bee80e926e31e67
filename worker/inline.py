"""`team.run()`: one run in this process, whole or as a stream of events."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from worker.db import IN_MEMORY, Db
from worker.domain import Event, Message, Run, RunOrder, Status, Usage, terminal_event, validate_order
from worker.domain.event import TERMINAL, queued
from worker.errors import RunFailed
from worker.events.publish import Listeners
from worker.loop.definition import Definition
from worker.runs.in_process import accept_in_process, execute_when_head
from worker.store import erasure, messages
from worker.summaries.in_process import refresh_in_background


@dataclass(frozen=True, slots=True)
class RunOutput:
    """What came of a run: the answer, all its messages (members' too), and what it used."""

    content: str
    messages: list[Message]
    usage: Usage
    run_id: str
    session_id: str
    user_id: str


def run(db: Db, definition: Definition, order: RunOrder) -> RunOutput:
    """Execute one run and return what came of it.

    Raises:
        RunFailed: it did not complete.
    """
    runtime = db.runtime
    validate_order(order, max_input_bytes=runtime.settings.max_input_bytes)
    accepted = accept_in_process(runtime, order)
    try:
        ended = execute_when_head(runtime, definition, accepted.id)
        refresh_in_background(runtime, definition, accepted.id)
        return _output(db, ended)
    finally:
        if order.session_id is None and db is IN_MEMORY:  # it was a session for one run: no one can name it any more
            with runtime.db.write() as tx:
                erasure.erase_session_of_run(tx, accepted.id)


def watch(db: Db, definition: Definition, order: RunOrder) -> Iterator[Event]:
    """Execute one run and yield its events as they happen, up to the terminal one."""
    runtime = db.runtime
    listeners = runtime.publisher
    assert isinstance(listeners, Listeners)
    validate_order(order, max_input_bytes=runtime.settings.max_input_bytes)
    accepted = accept_in_process(runtime, order)
    events = listeners.listen(accepted.id)

    def work() -> None:
        run = execute_when_head(runtime, definition, accepted.id)
        refresh_in_background(runtime, definition, accepted.id)
        # Another process may have ended it; where this one did, its own event is before this one in the queue.
        events.put(terminal_event(run.id, run.status))

    def follow() -> Iterator[Event]:
        yield queued(accepted)
        try:
            while True:
                event = events.get()
                if event.type in TERMINAL:
                    worker.join()  # it has ended the run, and is about to leave the database
                yield event
                if event.type in TERMINAL:
                    return
        finally:
            listeners.leave(accepted.id)

    worker = threading.Thread(target=work, name=f"run {accepted.id}", daemon=True)
    worker.start()
    return follow()


def _output(db: Db, ended: Run) -> RunOutput:
    if ended.status is not Status.COMPLETED:
        reason = ended.error.message if ended.error else "its cancellation was requested."
        raise RunFailed(run_id=ended.id, status=ended.status, reason=reason)
    with db.runtime.db.read() as tx:
        written = messages.of_run_by_id(tx, ended.id)
    return RunOutput(ended.output or "", written, ended.usage, ended.id, ended.session_id, ended.user_id)
