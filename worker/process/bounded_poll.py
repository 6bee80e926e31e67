"""Ask for something that may take long or never answer, without waiting for it long: for scrapers.

A frozen database answers nobody, and refuses nobody. A scraper has to be told so, in time, and the tenth that asks must
not leave a tenth thread behind.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from worker import clock

T = TypeVar("T")
WAIT_S = 2.0


class BoundedPoll(Generic[T]):
    """Calls *call* on a thread, one at a time, at most every *fresh_s* seconds."""

    def __init__(self, call: Callable[[], T], *, fresh_s: float) -> None:
        self._call = call
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._started_at = float("-inf")
        self._result: T | None = None

    @property
    def running(self) -> bool:
        """Whether it is being asked now."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to ask, unless that is under way, or was done a moment ago."""
        with self._lock:
            if self.running or clock.monotonic() - self._started_at < self._fresh_s:
                return
            self._started_at = clock.monotonic()
            self._thread = threading.Thread(target=self._run, name="poll", daemon=True)
            self._thread.start()

    def result(self) -> T | None:
        """Return the last answer; None: there is none within two seconds, or asking failed."""
        self.start()
        thread = self._thread
        assert thread is not None
        thread.join(WAIT_S)
        return None if thread.is_alive() else self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception:  # noqa: BLE001 - whatever it was, there is no answer; who asks in earnest logs why
            self._result = None
