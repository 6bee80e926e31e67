"""What the system lets this process have, and whether a worker can do its work with it: file handles and threads.

A worker that runs out of them in the middle of its work puts runs back, and cannot open the connections that it needs
for that. So it takes fewer tasks from the start, or none.
"""

import os
import resource
import threading
from contextlib import suppress

from worker.errors import ProcessLimitTooLow
from worker.observe import logs

# File handles: of a worker without tasks, with full connection pools; of one task, its model call and a file of a tool.
HANDLES, HANDLES_OF_TASK = 100, 2
# Threads: of what every worker does in the background; of one task, its own and those of two tool calls.
THREADS, THREADS_OF_TASK = 12, 3
SPARE = 16  # handles that are kept for the end of a worker: its last writes need connections

log = logs.get(__name__)


def fitting(concurrency: int) -> int:
    """Return how many tasks at the same time fit, at most *concurrency*. Raise the limit of file handles if it is low.

    Raises:
        ProcessLimitTooLow: not even one does.
    """
    handles = _raise_handles(HANDLES + HANDLES_OF_TASK * concurrency)
    fits = _fits(handles, HANDLES, HANDLES_OF_TASK, concurrency, what="file handles", how="ulimit -n")
    threads = _startable(THREADS + THREADS_OF_TASK * fits)
    return _fits(threads, THREADS, THREADS_OF_TASK, fits, what="threads", how="ulimit -u, or the pids of a container")


def _fits(found: int, own: int, of_task: int, concurrency: int, *, what: str, how: str) -> int:
    fits = min(concurrency, (found - own) // of_task)
    if fits < 1:
        raise ProcessLimitTooLow(least=own + of_task, what=what, found=found, how=how)
    if fits < concurrency:
        needed = own + of_task * concurrency
        fields = {"what": what, "found": found, "needed": needed, "concurrency": fits, "raise_with": how}
        log.warning("the system gives this worker too little; it executes fewer tasks at the same time", **fields)
    return fits


def _raise_handles(needed: int) -> int:
    """Raise the soft limit of file handles as far as is needed and allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _startable(most: int) -> int:
    """Return how many threads can be started now, at most *most*. They end again."""
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(most):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        pass
    over.set()
    for thread in started:
        thread.join()
    return len(started)


class SpareHandles:
    """File handles that a worker keeps for its end, and the test whether it has others left."""

    def __init__(self) -> None:
        self._spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(SPARE)]

    def others_left(self) -> bool:
        """Tell whether a file can be opened without the spare handles."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Let the process use the spare handles."""
        while self._spare:
            with suppress(OSError):
                os.close(self._spare.pop())
