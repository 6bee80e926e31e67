"""Execute one run in this process, and return its result or a stream of its events.

The run waits for its turn in its session like any other, with the same lease, order and promises. It is enqueued with a
lease, so no worker takes it. If this process dies, the lease expires, and a worker that serves the team finishes the
run, or the next `team.run()` in the session does.

The async forms execute it by the same code, on a thread; its async tools run on the event loop of the caller.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from worker.aio import on_thread
from worker.db import Db
from worker.domain import SERVICE, Decision, Event, Run, RunOrder, Status, terminal_event, validate_order
from worker.domain.event import RUN_PAUSED, TERMINAL, queued
from worker.errors import ArgumentInvalid, RunFailed, RunNotFound, SessionPaused
from worker.events.publish import Listeners
from worker.loop.answer import AnswerSchema
from worker.loop.definition import Definition
from worker.loop.user_loop import CallersLoop
from worker.process.runtime import Runtime
from worker.run_output import RunOutput, output_of
from worker.runs import current
from worker.runs.cancel import cancel
from worker.runs.decide import decide
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.store import Lease, erasure, messages, pending_calls, run_state, runs, sessions, teams
from worker.summaries.in_process import refresh_in_background

Begin = Callable[[Runtime], Run]
Begun = Callable[[Run], None]
Happened = Event | BaseException
LAST = TERMINAL | {RUN_PAUSED.name}  # events after which this process has nothing left to do
POLL_S = 0.05  # between two checks of a run that waits for its turn
CANCEL_S = 5.0  # how long a caller that leaves waits for the end of its run


@dataclass(frozen=True, slots=True)
class Start:
    """How a run begins here. `for_once`: its session is only for it, and is erased with its end.

    `answer`: what its answer must fit, for the object that its caller gets.
    """

    begin: Begin
    for_once: bool = False
    answer: AnswerSchema | None = None


def accept(order: RunOrder) -> Begin:
    """Begin by accepting a run.

    Raises:
        SessionOfThisRun: it was called by a tool of a run in the same session; nothing is written.
        SessionPaused: an earlier run of the session waits for a decision; nothing is written.
    """

    def begin(runtime: Runtime) -> Run:
        settings = runtime.settings
        current.check_not_within(order.user_id or "", order.session_id, database=runtime.db)
        validate_order(order, max_input_bytes=settings.max_input_bytes)
        return enqueue(runtime.db, order, settings=settings, lease=Lease(runtime.owner, settings.lease_seconds)).run

    return begin


def go_on(run_id: str, team: str, decisions: Sequence[Decision], *, user_id: str | None = None) -> Begin:
    """Begin by deciding about calls of a paused run of *team*.

    Raises:
        RunNotFound: there is none, or it is of another team, so that it could not be executed here.
        What `runs.decide` raises.
    """

    def begin(runtime: Runtime) -> Run:
        with runtime.db.read() as tx:
            known = runs.get(tx, run_id, principal=SERVICE, user_id=user_id, texts=False)
        if known is None or known.team != team:
            raise RunNotFound(run_id=run_id)
        lease = Lease(runtime.owner, runtime.settings.lease_seconds)
        run, _dispatches = decide(runtime.db, run_id, decisions, user_id=user_id, lease=lease)
        if not decisions and run.status is Status.PAUSED:
            raise ArgumentInvalid(problem="no call is decided: use confirm(), reject() or another one of them first")
        return run

    return begin


def run(db: Db, definition: Definition, start: Start, *, begun: Begun) -> RunOutput:
    """Execute one run until it ends or pauses, and return its result. *begun* is called with the run at its beginning.

    Raises:
        RunFailed: it did not complete.
        What *start* raises.
    """
    return _run(db, definition, start, db.runtime, begun)


async def arun(db: Db, definition: Definition, start: Start, *, begun: Begun) -> RunOutput:
    """Execute one run and return its result, as `run` does. If the task is cancelled, so is the run."""
    run_ids: list[str] = []

    def note(run: Run) -> None:
        run_ids.append(run.id)
        begun(run)

    coroutines = CallersLoop(asyncio.get_running_loop())
    ended = on_thread(
        lambda: _run(db, definition, start, replace(db.runtime, coroutines=coroutines), note), name="awaited run"
    )
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        await _cancel_awaited(db, run_ids, ended)
        raise


def watch(db: Db, definition: Definition, start: Start, *, begun: Begun) -> Iterator[Event]:
    """Execute one run and yield its events as they happen, up to its end or its pause. The arguments as in `run`.

    A reader that leaves early cancels nothing, except by Ctrl-C.
    """
    runtime = db.runtime
    queued_run = _begin(runtime, start, begun)
    happened: SimpleQueue[Happened] = SimpleQueue()
    _listeners(runtime).listen(queued_run.id, happened.put)
    work = partial(_work, runtime, definition, queued_run.id, happened.put)
    worker = threading.Thread(target=work, name=f"run {queued_run.id}", daemon=True)
    worker.start()

    def follow() -> Iterator[Event]:
        try:
            yield queued(queued_run)
            while (event := _event(happened.get())).type not in LAST:
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


async def awatch(db: Db, definition: Definition, start: Start, *, begun: Begun) -> AsyncGenerator[Event]:
    """Execute one run and yield its events, as `watch` does."""
    loop = asyncio.get_running_loop()
    happened: asyncio.Queue[Happened] = asyncio.Queue()

    def put(event: Happened) -> None:
        with suppress(RuntimeError):  # the loop is closed: its reader has left
            loop.call_soon_threadsafe(happened.put_nowait, event)

    def prepare() -> tuple[Runtime, Run]:
        runtime = replace(db.runtime, coroutines=CallersLoop(loop))
        run = _begin(runtime, start, begun)
        _listeners(runtime).listen(run.id, put)
        return runtime, run

    runtime, queued_run = await on_thread(prepare, name="accept")
    ended = on_thread(partial(_work, runtime, definition, queued_run.id, put), name="awaited run")
    try:
        yield queued(queued_run)
        while (event := _event(await happened.get())).type not in LAST:
            yield event
        await ended
        yield event
    except asyncio.CancelledError:
        await _cancel_awaited(db, [queued_run.id], ended)
        raise
    finally:
        _listeners(runtime).leave(queued_run.id)


def output(db: Db, run_id: str, *, answer: AnswerSchema | None = None) -> RunOutput:
    """Return the result of a run that has ended.

    Raises:
        RunNotFound
        RunFailed: it did not complete, or has not ended.
    """
    with db.runtime.db.read() as tx:
        run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return _output(db, run, answer=answer)


def _run(db: Db, definition: Definition, start: Start, runtime: Runtime, begun: Begun) -> RunOutput:
    run_id = _begin(runtime, start, begun).id
    keeps = not start.for_once
    try:
        run, cause = _execute(runtime, definition, run_id)
        keeps = keeps or run.status is Status.PAUSED
        return _output(db, run, cause, answer=start.answer)
    except KeyboardInterrupt:
        _cancel(runtime, run_id)  # it has ended already, unless it waited for its turn
        raise
    finally:
        if not keeps:
            with runtime.db.write() as tx:
                erasure.erase_session_of_run(tx, run_id)


def _work(runtime: Runtime, definition: Definition, run_id: str, put: Callable[[Happened], None]) -> None:
    try:
        run, _cause = _execute(runtime, definition, run_id)
    except BaseException as error:  # noqa: BLE001 - its reader raises it
        put(error)
        return
    # Needed if another process ended the run. If this process did, the reader stops at the event queued before.
    is_paused = run.status is Status.PAUSED
    put(RUN_PAUSED(run_id=run.id, pending=[]) if is_paused else terminal_event(run.id, run.status, run.finish_reason))


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


def _begin(runtime: Runtime, start: Start, begun: Begun) -> Run:
    run = start.begin(runtime)
    begun(run)
    return run


def _execute(runtime: Runtime, definition: Definition, run_id: str) -> tuple[Run, BaseException | None]:
    """Execute a run when its turn comes. Return it once it has ended or paused, with the error that ended it here.

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
            if run.status.terminal or run.status is Status.PAUSED:
                break
            with runtime.db.read() as tx:
                head = sessions.head_of_run(tx, run_id)
                paused = None if head in (None, run_id) else run_state.paused(tx, head)
                served = teams.is_served(tx, definition.id, queue="runs")
            if paused:  # while this run waited: it must not wait for a decision
                _cancel(runtime, run_id)
                raise SessionPaused(session_id=run.session_id, run_id=head)
            if head is not None and head != run_id and not served:
                execute(serving, head, definition.id)
            time.sleep(POLL_S)
    refresh_in_background(runtime, definition, run_id)
    return run, cause


def _output(db: Db, run: Run, cause: BaseException | None = None, *, answer: AnswerSchema | None = None) -> RunOutput:
    if run.status not in (Status.COMPLETED, Status.PAUSED):
        raise RunFailed(run_id=run.id, status=run.status, reason=_reason(run)) from cause
    with db.runtime.db.read() as tx:
        calls = pending_calls.of_run(tx, run.id) if run.status is Status.PAUSED else []
        return output_of(run, messages.of_run_by_id(tx, run.id), calls, answer)


def _reason(ended: Run) -> str:
    if ended.error is not None:
        return ended.error.message
    return "its cancellation was requested." if ended.status.terminal else "it has not ended yet."
