"""The event loop for the coroutines of users: one for a process, so that what a module keeps works in all of them.

A client, a pool of connections or a lock belongs to the event loop that used it first. So the async tools of all runs
share one loop, on a thread of its own. Model calls have another one: a tool that blocks its loop must not hold them up.

A tool that blocks the loop delays all others. While coroutines are under way, the loop beats; a late beat is logged
with their names. A loop that does not beat any more gets no further coroutine: each has a loop of its own then.
"""

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any

from worker import clock
from worker.domain import Stop
from worker.loop_thread import LoopThread
from worker.observe import logs, metrics

BEAT_S = 0.5
LATE_S = 1.0  # from here on a late beat is logged
BLOCKED_S = 30.0  # from here on the loop counts as blocked for good

LEAVE_S = 5.0  # what a lifespan may take to end

Lifespan = Callable[[], AbstractAsyncContextManager[object]]

log = logs.get(__name__)


class UserLoop:
    """The loop, on a daemon thread that is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._lifespans: list[tuple[Future[None], asyncio.Event]] = []
        self._under_way: Counter[str] = Counter()
        self._since_beat: set[str] = set()  # names of those that were under way since the last beat
        self._beat_due: float | None = None  # on clock.monotonic; None: nothing is under way
        metrics.USER_LOOP_LAG.set_function(lambda: self.lag_s)

    def run(self, coroutine: Coroutine[Any, Any, Any], *, name: str, stop: Stop) -> Any:
        """Return what *coroutine* returns. It is cancelled when *stop* is set. Its context is that of this thread."""
        if self.lag_s > BLOCKED_S:
            log.warning("the event loop of the tools is blocked; an async tool gets one of its own", tool=name)
            return asyncio.run(coroutine)
        with self._noted(name) as thread:
            future = thread.begin(coroutine)
            with stop.calling(future.cancel):
                return future.result()

    @property
    def lag_s(self) -> float:
        """How late the loop's next beat is, in seconds."""
        due = self._beat_due
        return 0.0 if due is None else max(0.0, clock.monotonic() - due)

    def enter(self, lifespan: Lifespan) -> None:
        """Enter *lifespan* on the loop, which stays in it until `close`. Raises what it raises before its `yield`."""
        leave, entered = asyncio.Event(), Future[None]()

        async def stay() -> None:
            async with lifespan():
                entered.set_result(None)
                await leave.wait()

        thread = self._started()
        staying = thread.begin(stay())
        wait([entered, staying], return_when=FIRST_COMPLETED)
        if not entered.done():
            staying.result()
        self._lifespans.append((staying, leave))

    def close(self) -> None:
        """Leave the lifespans, end what is under way, and stop the loop.

        A loop that is blocked is left to the end of the process.
        """
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        for staying, leave in reversed(self._lifespans):
            thread.loop.call_soon_threadsafe(leave.set)
            try:
                staying.result(timeout=LEAVE_S)
            except Exception as error:  # noqa: BLE001 - the process ends in any case
                log.warning("the lifespan of the teams did not end well", error=error)
        with suppress(TimeoutError):
            thread.close()

    @contextmanager
    def _noted(self, name: str) -> Iterator[LoopThread]:
        """Note a coroutine while it is under way, and let the loop beat."""
        thread = self._started()
        with self._lock:
            self._under_way[name] += 1
            self._since_beat.add(name)
            if self._beat_due is None:
                self._beat_due = clock.monotonic()
                thread.loop.call_soon_threadsafe(self._beat, thread.loop)
        try:
            yield thread
        finally:
            with self._lock:
                self._under_way[name] -= 1

    def _started(self) -> LoopThread:
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("tools")
            return self._thread

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        late_s = self.lag_s
        with self._lock:
            names, self._since_beat = self._since_beat, {name for name, count in self._under_way.items() if count}
            goes_on = bool(self._since_beat)
            self._beat_due = clock.monotonic() + BEAT_S if goes_on else None
        if late_s > LATE_S:
            log.warning(
                "tool blocks the event loop of all tools", seconds=round(late_s, 1), tools=", ".join(sorted(names))
            )
        if goes_on:
            loop.call_later(BEAT_S, self._beat, loop)


class CallersLoop:
    """The event loop of the caller of `team.arun`, where the caller's clients and pools live."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, coroutine: Coroutine[Any, Any, Any], *, name: str, stop: Stop) -> Any:
        """As `UserLoop.run`."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        with stop.calling(future.cancel):
            return future.result()


async def finished(result: Any) -> Any:
    """Return what an awaitable returns, or what an async generator yields, `joined`."""
    if inspect.isasyncgen(result):
        return joined([piece async for piece in result])
    return await result


def joined(pieces: list[Any]) -> Any:
    """Return what a generator has yielded: texts as one text, everything else as it is."""
    return "".join(pieces) if pieces and all(isinstance(piece, str) for piece in pieces) else pieces
