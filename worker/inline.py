"""`team.run()`: execute one run in this process, and return its result or a stream of its events.

The run waits for its turn in its session like any other, with the same lease, order and promises. It is enqueued with a
lease, so no worker takes it. If this process dies, the lease expires, and a worker that serves the team finishes the
run, or the next `team.run()` in the session does.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from worker.db import IN_MEMORY, Db
from worker.domain import SERVICE, Event, Message, Run, RunOrder, Status, Usage, terminal_event, validate_order
from worker.domain.event import TERMINAL, queued
from worker.errors import RunFailed, RunNotFound
from worker.events.publish import Listeners
from worker.loop.definition import Definition
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.store import Lease, erasure, messages, runs, sessions, teams
from worker.summaries.in_process import refresh_in_background

Accepted = Callable[[Run], None]
POLL_S = 0.05  # between two checks of a run that waits for its turn


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The result of a run: the answer, all its messages (members' too), and its usage.

    `finish_reason` is 'stop', or 'length' if the model's limit of output tokens cut the answer off.
    """

    content: str
    messages: list[Message]
    usage: Usage
    run_id: str
    session_id: str
    user_id: str
    finish_reason: str = "stop"


def run(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> RunOutput:
    """Execute one run and return its result. *accepted* is called with the run once it is accepted.

    Raises:
        RunFailed: it did not complete.
    """
    runtime = db.runtime
    run_id = _accept(runtime, order, accepted).id
    try:
        return _output(db, _execute(runtime, definition, run_id))
    finally:
        if order.session_id is None and db is IN_MEMORY:  # the session was only for this run
            with runtime.db.write() as tx:
                erasure.erase_session_of_run(tx, run_id)


def watch(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> Iterator[Event]:
    """Execute one run and yield its events as they happen, up to the terminal one. *accepted* as in `run`."""
    runtime = db.runtime
    listeners = runtime.publisher
    assert isinstance(listeners, Listeners)
    queued_run = _accept(runtime, order, accepted)
    events = listeners.listen(queued_run.id)

    def work() -> None:
        run = _execute(runtime, definition, queued_run.id)
        # Needed if another process ended the run. If this process did, `follow` stops at the event queued before.
        events.put(terminal_event(run.id, run.status, run.finish_reason))

    def follow() -> Iterator[Event]:
        yield queued(queued_run)
        try:
            while True:
                event = events.get()
                if event.type in TERMINAL:
                    worker.join()  # the run has ended; wait until the thread no longer uses the database
                yield event
                if event.type in TERMINAL:
                    return
        finally:
            listeners.leave(queued_run.id)

    worker = threading.Thread(target=work, name=f"run {queued_run.id}", daemon=True)
    worker.start()
    return follow()


def _accept(runtime: Runtime, order: RunOrder, accepted: Accepted) -> Run:
    settings = runtime.settings
    validate_order(order, max_input_bytes=settings.max_input_bytes)
    run = enqueue(runtime.db, order, settings=settings, lease=Lease(runtime.owner, settings.lease_seconds)).run
    accepted(run)
    return run


def _execute(runtime: Runtime, definition: Definition, run_id: str) -> Run:
    """Execute an accepted run when its turn comes, and return it once it is terminal.

    If an earlier run of the session is queued and no live worker serves it, that run is executed first.
    """
    serving = replace(runtime, teams={definition.id: definition})
    with runtime.keeper.keep_waiting(run_id):
        while True:
            execute(serving, run_id, definition.id)
            with runtime.db.read() as tx:
                run = runs.get(tx, run_id, principal=SERVICE)
            if run is None:
                raise RunNotFound(run_id=run_id)
            if run.status.terminal:
                break
            with runtime.db.read() as tx:
                head = sessions.head_of_run(tx, run_id)
                served = teams.is_served(tx, definition.id, queue="runs")
            if head is not None and head != run_id and not served:
                execute(serving, head, definition.id)
            time.sleep(POLL_S)
    refresh_in_background(runtime, definition, run_id)
    return run


def _output(db: Db, ended: Run) -> RunOutput:
    if ended.status is not Status.COMPLETED:
        reason = ended.error.message if ended.error else "its cancellation was requested."
        raise RunFailed(run_id=ended.id, status=ended.status, reason=reason)
    with db.runtime.db.read() as tx:
        written = messages.of_run_by_id(tx, ended.id)
    ids = (ended.id, ended.session_id, ended.user_id)
    return RunOutput(ended.output or "", written, ended.usage, *ids, ended.finish_reason or "stop")
