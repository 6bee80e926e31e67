"""An event loop on a daemon thread."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

CLOSE_S = 5.0

T = TypeVar("T")


async def _nothing() -> None: ...


class LoopThread:
    """It runs until it is closed. Make it after any fork: a child of a process has none of its threads."""

    def __init__(self, name: str, *, last: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Start it. *last* is awaited on the loop when it is closed."""
        self.loop = asyncio.new_event_loop()
        self._last = last
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine from another thread, whose context variables it sees. The future can cancel it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        """End what is under way, and stop the loop. A second call does nothing.

        Raises:
            TimeoutError: something blocks the loop.
        """
        if self.loop.is_closed():
            return
        self.begin(self._end_all()).result(timeout=CLOSE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=CLOSE_S)
        self.loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._last()
