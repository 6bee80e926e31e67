"""Messages of other programs: their content is never shown, and no message stops a worker.

Messages of `runs.enqueue` hold message text. Flower requests the arguments of tasks from workers. Celery logs a message
that it cannot read, or ends the worker with an error; the message is then redelivered after each start.
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
    """A task in progress that does not reveal its arguments."""

    def info(self, safe: bool = False) -> dict[str, Any]:
        """Return what `inspect active` and similar commands show."""
        return {**super().info(safe), "args": [], "kwargs": {}}


class CarefulConsumer(Consumer):  # type: ignore[misc]  # as above
    """A consumer that drops what it cannot read, and logs that without its content."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, and retry each second. By default the pauses grow to half a minute."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_start=1, interval_step=0)
        return super().ensure_connected(conn)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the function that handles each message."""
        handle = super().create_task_handler(*args, **kwargs)

        def handle_with_care(message: Any) -> None:
            try:
                handle(message)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                self._drop(message, error)

        return handle_with_care

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drop a message that is not a task."""
        self._drop(message, None)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drop a message of an unknown task, or one that violates Celery's protocol."""
        self._drop(message, exc)

    on_invalid_task = on_unknown_task

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drop a message that is not JSON."""
        self._drop(message, exc)

    def _drop(self, message: Any, error: Exception | None) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        log.error("message dropped: it cannot be read", task_id=str(headers.get("id"))[:255], error=error)
        if not message.acknowledged:
            message.reject_log_error(logging.getLogger(__name__), self.connection_errors)
