"""Notice that a worker consumes nothing although its broker answers, or has no file handles left, so that it can end.

A worker is alive if it could take a task, not if its process exists. While the broker is away the watchdog does not
count the silence: workers wait for the broker. Nor right after a round that took too long: then this process was
frozen, or the machine is overloaded.
"""

import threading
from collections.abc import Callable

from worker import clock
from worker.observe import logs

SILENT_S = 30.0  # the transport itself drops a connection without answers within 21 s: see `queue/app.py`
EXHAUSTED_S = 10.0  # a moment without a file handle is no reason to end
TICK_S = 1.0
ROUND_S = 3.0

log = logs.get(__name__)


class Watchdog:
    """Checks each second, on its own thread.

    *alive_at* returns when the consumer was last seen alive; *broker_answers* uses its own connection. After
    `SILENT_S` of silence, during which the broker answered, *give_up* is called, once; and after `EXHAUSTED_S` without
    a file handle, according to *handles_left*.
    """

    def __init__(
        self,
        *,
        alive_at: Callable[[], float],
        broker_answers: Callable[[], bool],
        handles_left: Callable[[], bool],
        give_up: Callable[[], None],
    ) -> None:
        self._alive_at = alive_at
        self._broker_answers = broker_answers
        self._handles_left = handles_left
        self._give_up = give_up
        self._closing = threading.Event()

    def start(self) -> None:
        """Watch until `close`."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """Stop watching; also from a signal handler."""
        self._closing.set()

    def _watch(self) -> None:
        silent_from = checked_at = handles_at = clock.monotonic()
        while not self._closing.wait(TICK_S):
            if self._handles_left():
                handles_at = clock.monotonic()
            elif clock.monotonic() - handles_at > EXHAUSTED_S:
                log.error("worker has no file handles left; handing its runs over, then ending", seconds=EXHAUSTED_S)
                self._give_up()
                return
            suspicious = clock.monotonic() - max(silent_from, self._alive_at()) > SILENT_S / 6
            answers = not suspicious or self._broker_answers()
            now = clock.monotonic()
            if not answers or now - checked_at > ROUND_S:
                silent_from = now
            silent_s = now - max(silent_from, self._alive_at())
            if silent_s > SILENT_S and not self._closing.is_set():
                log.error(
                    "worker consumes nothing although its broker answers; handing its runs over, then ending",
                    silent_seconds=round(silent_s),
                )
                self._give_up()
                return
            checked_at = now
