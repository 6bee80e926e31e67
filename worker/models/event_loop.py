"""The event loop of a process, on one thread, that runs all model calls.

A run's thread waits here for a reply, and stops waiting at once when its run must stop, even if the model has sent
nothing yet: a socket read on the run's own thread could not be interrupted. Database work never runs here.
"""

from collections.abc import Callable
from concurrent.futures import CancelledError

from worker.domain import ChatModel, ChatRequest, Reason, Reply, Stop, Stopped
from worker.loop_thread import LoopThread
from worker.models import server
from worker.observe import exhaustion


class EventLoop:
    """The loop, on a daemon thread. Make one per process, after any fork."""

    def __init__(self) -> None:
        self._thread = LoopThread("models", last=server.close_all)

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

        future = self._thread.begin(model.reply(request, unless_stopped))
        with stop.calling(future.cancel):
            try:
                return future.result()
            except CancelledError:
                raise Stopped(stop.reason or Reason.HANDED_OVER) from None
            except Exception as error:
                if (exhausted := exhaustion.found(error)) is not None:
                    raise exhausted from error
                raise
            finally:
                future.cancel()  # if this thread was interrupted

    def close(self) -> None:
        """End the calls in flight and stop the loop. A second call does nothing."""
        self._thread.close()
