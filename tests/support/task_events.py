"""What whoever watches the workers hears: their task events, as Flower gets them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from tests.support.system import wait_until


@contextmanager
def listening(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """Collect the events of all workers. Between two captures, every half a second, the listener hears nothing."""
    events: list[dict[str, Any]] = []
    stop = threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": events.append})
            while not stop.is_set():
                try:
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)
                except TimeoutError:
                    continue

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        wait_until(lambda: events, description="events arrive")
        yield events
    finally:
        stop.set()
        listener.join()
