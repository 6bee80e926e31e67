"""Run a Celery worker in this process, on threads."""

import signal
import warnings
from collections.abc import Callable, Sequence

from celery import Celery, signals
from celery.platforms import SecurityWarning
from celery.worker import state

from worker.queue.transport import Transport


def consume(
    app: Celery,
    *,
    name: str,
    queues: Sequence[str],
    concurrency: int,
    log_level: str,
    on_ready: Callable[[], None],
    on_stopping: Callable[[], None],
) -> int:
    """Consume *queues* until SIGTERM or SIGINT; the first queue is polled first. Return the exit code.

    *on_stopping* is called when the signal arrives. It must tell the tasks in flight to end: the thread pool can
    neither interrupt them nor limit their time. The worker then waits until they have ended.
    """
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: on_stopping(), weak=False)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # it warns of pickle as root; we accept only JSON
    worker = app.Worker(
        pool="threads",
        concurrency=concurrency,
        queues=list(queues),
        hostname=name,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        loglevel=log_level,
    )
    worker.start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the rest of the shutdown
    return worker.exitcode or 0


def in_flight() -> int:
    """Return the number of tasks that this process has received and not finished."""
    return len(state.requests)


def alive_at() -> float:
    """Return the last time, on `clock.monotonic`, at which this process was able to receive a task."""
    return Transport.alive_at
