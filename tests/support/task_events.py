"""The task events of the workers, as Flower receives them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from tests.support.system import wait_until


@contextmanager
def listening(app: Celery, *, meanwhile: Callable[[], None] = lambda: None) -> Iterator[list[dict[str, Any]]]:
    """Collect the events of all workers; *meanwhile* is called until the first one arrives."""
    events: list[dict[str, Any]] = []

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": events.append})
            receivers.append(receiver)
            receiver.capture(limit=None, timeout=None, wakeup=False)

    receivers: list[Any] = []
    listener = threading.Thread(target=listen)
    listener.start()

    def hears() -> bool:
        meanwhile()
        return bool(events)

    try:
        wait_until(hears, description="events arrive")
        yield events
    finally:
        for receiver in receivers:
            receiver.should_stop = True
        listener.join()
