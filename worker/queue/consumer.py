"""Messages of other programs: what they hold is shown to nobody, and no message stops a worker.

Those of `runs.enqueue` hold message text. Flower asks workers for the arguments of tasks, and Celery writes a message
that it cannot read into its log, or ends the worker by an error that comes back with the message after each start.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.request import Request

from worker.observe import logs

log = logs.get(__name__)


class PrivateRequest(Request):  # type: ignore[misc]  # celery has no types
    """A task at work that says nothing of its arguments."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `inspect active` and its like are told."""
        return {**super().info(safe), "args": [], "kwargs": {}}


class CarefulConsumer(Consumer):  # type: ignore[misc]  # as above
    """A consumer that drops what it cannot read, with a line in the log that holds nothing of it."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and try again each second until there is a broker: the pauses would grow to half a minute."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_start=1, interval_step=0)
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return what takes each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_with_care(message: Any) -> None:
            try:
                handle(message)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self._drop(message, error)

        return handle_with_care

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drop a message that is no task."""
        self._drop(message, None)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a message of a task that is not ours."""
        self._drop(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a task whose message is not as Celery's protocol has it."""
        self._drop(message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop a message that is not JSON."""
        self._drop(message, exc)

    def _drop(self, message: Any, error: Exception | None) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        log.error("message dropped: it cannot be read", task_id=str(headers.get("id"))[:255], error=error)
        if not message.acknowledged:
            message.reject_log_error(logging.getLogger(__name__), self.connection_errors)
