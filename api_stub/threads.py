"""The threads on which an API process does what waits: the database, the broker.

Many at once only get in each other's way, as one thread of a process executes Python at a time: with 16 clients, the
99th percentile of a POST fell by a quarter with six threads in place of forty, and again with four in place of six. A
call that takes long waits for something, a lock or a server, and no longer counts.
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

AT_ONCE = 4
LONG_S = 0.1

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Executes calls on threads, `AT_ONCE` at a time, and those that take long beside them."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what *call* returns."""
        await self._places.acquire()
        place = _Place(self._places)
        try:
            return await run_in_threadpool(call, *args, **kwargs)
        finally:
            place.give_back()


class _Place:
    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(LONG_S, self.give_back)

    def give_back(self) -> None:
        """Give the place to the next call, the first time that this is called."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._places.release()
