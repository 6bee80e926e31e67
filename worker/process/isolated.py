"""Processes that execute one run each: a run that ended its process twice, or ran in a process that such a run ended.

Forked from a server that has our code loaded and no threads, so such a process starts without loading anything. It
claims the run and keeps its lease like any process. If it is killed, the lease runs out, and the next claim fails the
run.
"""

import multiprocessing
from collections.abc import Callable

from worker.process.semaphore import Semaphore

AT_ONCE = 16  # for each worker: a process has about 70 MB (`ops/bench/run poison`), and up to three connections
POLL_S = 0.2


class IsolatedProcesses:
    """Starts them. *target* is called in each, with the run's id and its team."""

    def __init__(self, target: Callable[[str, str], None]) -> None:
        self._target = target
        self._slots = Semaphore(AT_ONCE)
        self._context = multiprocessing.get_context("forkserver")
        # The first one makes sure that the second is ours, and not of a `worker.py` in the working directory.
        self._context.set_forkserver_preload(["team_sessions", target.__module__])

    def execute(self, run_id: str, team: str, *, stopping: Callable[[], bool]) -> int | None:
        """Execute a run in an isolated process and return the exit code; negative: the signal that killed it.

        Once *stopping* returns true, the process is asked to hand the run over. None: no slot is free.
        """
        if not self._slots.acquire():
            return None
        try:
            process = self._context.Process(target=self._target, args=(run_id, team), name=f"run {run_id}")
            try:
                process.start()
            except (OSError, EOFError):  # the system gives no process; the server of forks may have ended for the same
                return None
            terminated = False
            while process.is_alive():
                process.join(POLL_S)
                if stopping() and not terminated:
                    process.terminate()
                    terminated = True
            return process.exitcode
        finally:
            self._slots.release()
