"""Processes that execute one run each: one that twice ended its process, or stood beside one that did.

Forked from a server that has our code loaded and no threads, so it starts without loading anything. It claims and
keeps the run like any process. Where it is killed, the lease runs out, and whoever claims the run next fails it.
"""

import multiprocessing
from collections.abc import Callable

from worker.process.semaphore import Semaphore

AT_ONCE = 16  # of each worker: each has about 70 MB (`ops/bench/run poison`), and up to three connections
POLL_S = 0.2


class IsolatedProcesses:
    """Starts them. *target* is called in each, with the run's id and its team."""

    def __init__(self, target: Callable[[str, str], None]) -> None:
        self._target = target
        self._slots = Semaphore(AT_ONCE)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([target.__module__])

    def execute(self, run_id: str, team: str, *, stopping: Callable[[], bool]) -> int | None:
        """Execute a run in a process of its own and return the exit code; negative: of which signal it died.

        Once *stopping* says so, it is asked to hand the run over. None: there are as many as may be.
        """
        if not self._slots.acquire():
            return None
        try:
            process = self._context.Process(target=self._target, args=(run_id, team), name=f"run {run_id}")
            process.start()
            terminated = False
            while process.is_alive():
                process.join(POLL_S)
                if stopping() and not terminated:
                    process.terminate()
                    terminated = True
            return process.exitcode
        finally:
            self._slots.release()
