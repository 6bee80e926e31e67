"""The consumer of a worker: no message and no failure of its connection ends it.

Celery ends a worker on errors that it does not expect from a broker. Here each of them is a lost connection, which is
made again each second. A consumer that cannot be repaired in this way takes no tasks, which the watchdog notices.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.request import Request

from worker import clock
from worker.observe import logs
from worker.queue.transport import drop

RETRY_S = 1.0  # between two connections
EVENTS_S = 0.2  # how long an event waits for others

log = logs.get(__name__)


class PrivateRequest(Request):  # type: ignore[misc]  # celery has no types
    """A task in progress that does not reveal its arguments: those of `runs.enqueue` hold message text."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `inspect active` and similar commands show."""
        return {**super().info(safe), "args": [], "kwargs": {}}


class CarefulConsumer(Consumer):  # type: ignore[misc]  # as above
    """A consumer that makes its connection again after any error, and drops what it cannot read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection_errors = (Exception,)
        self._failed_at = float("-inf")
        self._flush_again_at = float("-inf")

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and retry each second. By default the pauses grow to half a minute."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_start=RETRY_S, interval_step=0)
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait, unless this is the first failure for a second."""
        super().on_connection_error_before_connected(exc)
        self._pause()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the connection, and wait, unless this is the first failure for a second."""
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - the connection is given up, in whatever state it is
            log.warning("a lost connection to the broker could not be closed", error=error)
        self._pause()

    def on_send_event_buffered(self) -> None:
        """Send the events of tasks in groups, a few times a second. By default each turn of the loop sends its own."""
        now = clock.monotonic()
        if self.hub and now >= self._flush_again_at:
            self._flush_again_at = now + EVENTS_S / 2  # a lost connection can take a flush with it
            self.hub.call_soon(self.hub.call_later, EVENTS_S, self._flush_events)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the function that handles each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_with_care(message: Any) -> None:
            try:
                handle(message)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self.on_decode_error(message, error)

        return handle_with_care

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop a message that Celery cannot read: a command of its remote control. Tasks were read before."""
        drop(type(exc).__name__, queue="")
        if not message.acknowledged:
            message.reject_log_error(logging.getLogger(__name__), self.connection_errors)

    def _pause(self) -> None:
        if clock.monotonic() - self._failed_at < RETRY_S:
            time.sleep(RETRY_S)
        self._failed_at = clock.monotonic()
