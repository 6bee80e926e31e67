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
    """Consume *queues*, the first polled first, until SIGTERM or SIGINT; return the exit code.

    *on_stopping* is called at the signal; it must end the tasks in flight, which are then waited for. The pool of
    threads can neither interrupt nor time-limit them.
    """
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: on_stopping(), weak=False)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # about pickle as root: only JSON is accepted
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
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process is ending already
    return worker.exitcode or 0


def in_flight() -> int:
    """Return how many tasks this process has taken and not finished."""
    return len(state.requests)


def alive_at() -> float:
    """Return when the consumer of this process could last take a task, on `clock.monotonic`."""
    return Transport.alive_at
