"""The event loop of a process, on one thread, that runs all model calls.

A run's thread waits here for a reply, and stops waiting at once when its run must stop, even if the model has sent
nothing yet: a socket read on the run's own thread could not be interrupted. Database work never runs here.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

from worker.domain import ChatModel, ChatRequest, Reason, Reply, Stop, Stopped
from worker.models import server
from worker.observe import exhaustion


class EventLoop:
    """An event loop on a daemon thread. Make one per process, after any fork."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="models", daemon=True)
        self._thread.start()

    def ask(self, model: ChatModel, request: ChatRequest, on_delta: Callable[[str], None], *, stop: Stop) -> Reply:
        """Return the model's reply; *on_delta* is called on the loop's thread with each piece of text.

        Raises:
            ModelError: the model failed.
            WorkerExhausted: the call could not be made, because this process has no threads or file handles left.
            Stopped: the run must stop. The call is ended, and its late deltas are dropped.
        """

        def unless_stopped(text: str) -> None:
            if stop.reason is None:
                on_delta(text)

        future = asyncio.run_coroutine_threadsafe(model.reply(request, unless_stopped), self._loop)
        with stop.calling(future.cancel):
            try:
                return future.result()
            except CancelledError:
                raise Stopped(stop.reason or Reason.HANDED_OVER) from None
            except Exception as error:
                if (exhausted := exhaustion.found(error)) is not None:
                    raise exhausted from error
                raise

    def close(self) -> None:
        """End the calls in flight and stop the loop. A second call does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.close_all()
