"""Flower's connection to the workers' events, which is made again soon after it was lost.

Flower itself doubles its pause after each failure, without a bound: after an outage of ten minutes it would
show nothing new for minutes. Events are not kept by the broker, so what happens meanwhile is missing in Flower.
"""

import time

from celery.events import EventReceiver
from flower.events import Events

from worker.observe import logs

RETRY_S = 0.5

log = logs.get(__name__)


class PersistentEvents(Events):  # type: ignore[misc]  # flower has no types
    """The thread that receives events. `failures`: tries in a row that failed."""

    failures = 0

    def run(self) -> None:
        """Receive events for ever."""
        while True:
            try:
                with self.capp.connection() as connection:
                    receiver = EventReceiver(connection, handlers={"*": self._take}, app=self.capp)
                    receiver.capture(limit=None, timeout=None, wakeup=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must not end
                if not self.failures:
                    log.warning("the broker is away; Flower tries again until it is back", error=error)
                self.failures += 1
                time.sleep(RETRY_S)

    def _take(self, event: object) -> None:
        self.failures = 0
        self.on_event(event)
