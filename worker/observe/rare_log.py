"""Log a condition that can happen thousands of times a minute: once when it begins, then its number once a minute."""

import threading
from collections.abc import Callable

from worker import clock

EVERY_S = 60.0


class RareLog:
    """One condition of this process. *write* logs one line, with the fields of the latest time and `times`."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._times = 0
        self._written_at = float("-inf")

    def note(self, **fields: object) -> None:
        """Count one time, and log it if the last line is a minute old."""
        with self._lock:
            self._times += 1
            if clock.monotonic() - self._written_at < EVERY_S:
                return
            times, self._times, self._written_at = self._times, 0, clock.monotonic()
        self._write(**fields, times=times)
