"""Call a function every few seconds, on a thread."""

import threading
from collections.abc import Callable

from worker.observe import logs

log = logs.get(__name__)


class Ticker:
    """Calls *step* every *every_s* seconds, from now until `close`. A step that raises is logged as *failure*."""

    def __init__(self, name: str, every_s: float, step: Callable[[], object], *, failure: str) -> None:
        self._every_s = every_s
        self._step = step
        self._failure = failure
        self._closing = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def now(self) -> None:
        """Call *step* at once."""
        self._due.set()

    def close(self) -> None:
        """Stop, and wait at most five seconds for a step that runs."""
        self._closing = True
        self._due.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            self._due.wait(self._every_s)
            self._due.clear()
            if self._closing:
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - one failure must not end the thread that work depends on
                log.warning(self._failure, error=error)
