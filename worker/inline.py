"""Execute one run in this process, and return its result or a stream of its events.

The run waits for its turn in its session like any other, with the same lease, order and promises. It is enqueued with a
lease, so no worker takes it. If this process dies, the lease expires, and a worker that serves the team finishes the
run, or the next `team.run()` in the session does.

The async forms execute it by the same code, on a thread; its async tools run on the event loop of the caller.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from worker.aio import on_thread
from worker.db import IN_MEMORY, Db
from worker.domain import SERVICE, Event, Run, RunOrder, Status, terminal_event, validate_order
from worker.domain.event import TERMINAL, queued
from worker.errors import RunFailed, RunNotFound
from worker.events.publish import Listeners
from worker.loop.definition import Definition
from worker.loop.user_loop import CallersLoop
from worker.process.runtime import Runtime
from worker.run_output import RunOutput, output_of
from worker.runs import current
from worker.runs.cancel import cancel
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.store import Lease, erasure, messages, runs, sessions, teams
from worker.summaries.in_process import refresh_in_background

Accepted = Callable[[Run], None]
Happened = Event | BaseException
POLL_S = 0.05  # between two checks of a run that waits for its turn
CANCEL_S = 5.0  # how long a caller that leaves waits for the end of its run


def run(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> RunOutput:
    """Execute one run and return its result. *accepted* is called with the run once it is accepted.

    Raises:
        SessionOfThisRun: it was called by a tool of a run in the same session; nothing is written.
        RunFailed: it did not complete.
    """
    return _run(db, definition, order, db.runtime, accepted)


async def arun(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> RunOutput:
    """Execute one run and return its result, as `run` does. If the task is cancelled, so is the run."""
    run_ids: list[str] = []

    def note(run: Run) -> None:
        run_ids.append(run.id)
        accepted(run)

    coroutines = CallersLoop(asyncio.get_running_loop())
    ended = on_thread(
        lambda: _run(db, definition, order, replace(db.runtime, coroutines=coroutines), note), name="awaited run"
    )
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        await _cancel_awaited(db, run_ids, ended)
        raise


def watch(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> Iterator[Event]:
    """Execute one run and yield its events as they happen, up to the terminal one. *accepted* as in `run`.

    A reader that leaves early cancels nothing, except by Ctrl-C.
    """
    runtime = db.runtime
    queued_run = _accept(runtime, order, accepted)
    happened: SimpleQueue[Happened] = SimpleQueue()
    _listeners(runtime).listen(queued_run.id, happened.put)
    work = partial(_work, runtime, definition, queued_run.id, happened.put)
    worker = threading.Thread(target=work, name=f"run {queued_run.id}", daemon=True)
    worker.start()

    def follow() -> Iterator[Event]:
        try:
            yield queued(queued_run)
            while (event := _event(happened.get())).type not in TERMINAL:
                yield event
            worker.join()  # the run has ended; wait until the thread no longer uses the database
            yield event
        except KeyboardInterrupt:
            _cancel(runtime, queued_run.id)
            worker.join(CANCEL_S)
            raise
        finally:
            _listeners(runtime).leave(queued_run.id)

    return follow()


async def awatch(db: Db, definition: Definition, order: RunOrder, *, accepted: Accepted) -> AsyncGenerator[Event]:
    """Execute one run and yield its events, as `watch` does."""
    loop = asyncio.get_running_loop()
    happened: asyncio.Queue[Happened] = asyncio.Queue()

    def put(event: Happened) -> None:
        with suppress(RuntimeError):  # the loop is closed: its reader has left
            loop.call_soon_threadsafe(happened.put_nowait, event)

    def begin() -> tuple[Runtime, Run]:
        runtime = replace(db.runtime, coroutines=CallersLoop(loop))
        run = _accept(runtime, order, accepted)
        _listeners(runtime).listen(run.id, put)
        return runtime, run

    runtime, queued_run = await on_thread(begin, name="accept")
    ended = on_thread(partial(_work, runtime, definition, queued_run.id, put), name="awaited run")
    try:
        yield queued(queued_run)
        while (event := _event(await happened.get())).type not in TERMINAL:
            yield event
        await ended
        yield event
    except asyncio.CancelledError:
        await _cancel_awaited(db, [queued_run.id], ended)
        raise
    finally:
        _listeners(runtime).leave(queued_run.id)


def output(db: Db, run_id: str) -> RunOutput:
    """Return the result of a run that has ended.

    Raises:
        RunNotFound
        RunFailed: it did not complete, or has not ended.
    """
    with db.runtime.db.read() as tx:
        run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return _output(db, run)


def _run(db: Db, definition: Definition, order: RunOrder, runtime: Runtime, accepted: Accepted) -> RunOutput:
    run_id = _accept(runtime, order, accepted).id
    try:
        run, cause = _execute(runtime, definition, run_id)
        return _output(db, run, cause)
    except KeyboardInterrupt:
        _cancel(runtime, run_id)  # it has ended already, unless it waited for its turn
        raise
    finally:
        if order.session_id is None and db is IN_MEMORY:  # the session was only for this run
            with runtime.db.write() as tx:
                erasure.erase_session_of_run(tx, run_id)


def _work(runtime: Runtime, definition: Definition, run_id: str, put: Callable[[Happened], None]) -> None:
    try:
        run, _cause = _execute(runtime, definition, run_id)
    except BaseException as error:  # noqa: BLE001 - its reader raises it
        put(error)
        return
    # Needed if another process ended the run. If this process did, the reader stops at the event queued before.
    put(terminal_event(run.id, run.status, run.finish_reason))


def _event(happened: Happened) -> Event:
    if isinstance(happened, BaseException):
        raise happened
    return happened


def _listeners(runtime: Runtime) -> Listeners:
    assert isinstance(runtime.publisher, Listeners)
    return runtime.publisher


def _cancel(runtime: Runtime, run_id: str) -> None:
    """Cancel a run of this process: at once, not when the keeper looks the next time."""
    _run_now, dispatches = cancel(runtime.db, run_id)
    runtime.keeper.cancel(run_id)
    runtime.dispatcher.send(dispatches)


async def _cancel_awaited(db: Db, run_ids: list[str], ended: "asyncio.Future[Any]") -> None:
    """Cancel the run of a task that is cancelled, and wait a little for its end."""
    ended.add_done_callback(lambda future: future.exception())  # it is not awaited any more
    cancelled = [on_thread(partial(_cancel, db.runtime, run_id), name="cancel") for run_id in run_ids]
    await asyncio.wait([ended, *cancelled], timeout=CANCEL_S)


def _accept(runtime: Runtime, order: RunOrder, accepted: Accepted) -> Run:
    settings = runtime.settings
    current.check_not_within(order.user_id or "", order.session_id, database=runtime.db)
    validate_order(order, max_input_bytes=settings.max_input_bytes)
    run = enqueue(runtime.db, order, settings=settings, lease=Lease(runtime.owner, settings.lease_seconds)).run
    accepted(run)
    return run


def _execute(runtime: Runtime, definition: Definition, run_id: str) -> tuple[Run, BaseException | None]:
    """Execute an accepted run when its turn comes. Return it once it is terminal, with the error that ended it here.

    If an earlier run of the session is queued and no live worker serves it, that run is executed first.
    """
    serving = replace(runtime, teams={definition.id: definition})
    cause: BaseException | None = None
    with runtime.keeper.keep_waiting(run_id):
        while True:
            cause = execute(serving, run_id, definition.id).cause or cause
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
    return run, cause


def _output(db: Db, ended: Run, cause: BaseException | None = None) -> RunOutput:
    if ended.status is not Status.COMPLETED:
        raise RunFailed(run_id=ended.id, status=ended.status, reason=_reason(ended)) from cause
    with db.runtime.db.read() as tx:
        return output_of(ended, messages.of_run_by_id(tx, ended.id))


def _reason(ended: Run) -> str:
    if ended.error is not None:
        return ended.error.message
    return "its cancellation was requested." if ended.status.terminal else "it has not ended yet."
