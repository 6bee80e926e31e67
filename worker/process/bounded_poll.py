"""Read something that may never answer, and wait two seconds for it at most: for metrics and health checks.

A frozen database neither answers nor refuses. A scraper must learn that in time, and ten scrapes of it must not leave
ten threads waiting.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from worker import clock

T = TypeVar("T")
WAIT_S = 2.0


class BoundedPoll(Generic[T]):
    """Runs *call* on a thread, one call at a time, at most every *fresh_s* seconds."""

    def __init__(self, call: Callable[[], T], *, fresh_s: float) -> None:
        self._call = call
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._started_at = float("-inf")
        self._result: T | None = None

    @property
    def running(self) -> bool:
        """Whether a call is running now."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start a call, unless one is running or was started less than *fresh_s* seconds ago."""
        with self._lock:
            if self.running or clock.monotonic() - self._started_at < self._fresh_s:
                return
            self._started_at = clock.monotonic()
            self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
            self._thread.start()

    def result(self) -> T | None:
        """Return the newest result; None: there is none within two seconds, or the call failed."""
        self.start()
        thread = self._thread
        assert thread is not None
        thread.join(WAIT_S)
        return None if thread.is_alive() else self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception:  # noqa: BLE001 - any failure means that there is no answer; other callers log it
            self._result = None
