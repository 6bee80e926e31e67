"""Run a Celery worker in this process, on threads."""

import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from celery import Celery, signals
from celery.apps.worker import Worker, install_cry_handler
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import EX_OK, SecurityWarning
from celery.worker import state

from worker.queue import remote_control
from worker.queue.transport import Transport

# Each ends a process by default. Celery would start itself again on one, and drop its tasks on another.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2)


def consume(
    app: Celery,
    *,
    name: str,
    queues: Sequence[str],
    concurrency: int,
    log_level: str,
    may_take: Callable[[], bool],
    on_ready: Callable[[], None],
    on_stopping: Callable[[], None],
) -> int:
    """Consume *queues* until a signal of `STOP_SIGNALS`; the first queue is polled first. Return the exit code.

    While *may_take* returns false, no message is requested; it is called each second or more often.
    *on_stopping* is called once, on a thread, as soon as the worker stops for any reason: a signal, an error, a
    command. It must tell the tasks in flight to end: the thread pool can neither interrupt them nor limit their time.
    The worker then waits until they have ended. Further signals change nothing.
    """
    signals.worker_ready.connect(lambda **_: on_ready(), weak=False)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # it warns of pickle as root; we accept only JSON
    warnings.filterwarnings(
        "ignore", category=CPendingDeprecationWarning
    )  # at each lost connection, of a setting of ours
    remote_control.limit()
    Transport.may_take = staticmethod(may_take)
    # A signal handler may interrupt code that holds a lock. It may only put into such a queue, which takes none.
    stopping: SimpleQueue[None] = SimpleQueue()

    def hand_over() -> None:
        stopping.get()
        on_stopping()

    threading.Thread(target=hand_over, name="stopping", daemon=True).start()
    worker = _Worker(
        app=app,
        stopping=lambda: stopping.put(None),
        pool="worker.queue.pool:TaskPool",
        concurrency=concurrency,
        queues=list(queues),
        hostname=name,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        loglevel=log_level,
    )
    try:
        worker.start()
    finally:
        stopping.put(None)
        for number in STOP_SIGNALS:  # a second signal must not interrupt the rest of the shutdown
            signal.signal(number, signal.SIG_IGN)
    return worker.exitcode or 0


class _Worker(Worker):  # type: ignore[misc]  # celery has no types
    """Celery's worker, which calls *stopping* before it waits for its tasks, whatever makes it stop."""

    def __init__(self, *, stopping: Callable[[], None], **options: Any) -> None:
        self._stopping = stopping
        super().__init__(**options)

    def install_platform_tweaks(self, worker: Any) -> None:
        """Install the signal handlers."""
        install_cry_handler()  # SIGUSR1 prints where each thread is
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, self._handle_signal)

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop, and wait for the tasks."""
        self._stopping()
        super().stop(in_sighandler=in_sighandler, exitcode=exitcode)

    def terminate(self, in_sighandler: bool = False) -> None:
        """As `stop`."""
        self._stopping()
        super().terminate(in_sighandler=in_sighandler)

    def _handle_signal(self, *_: object) -> None:
        self._stopping()
        state.should_stop = EX_OK


def in_flight() -> int:
    """Return the number of tasks that this process has received and not finished."""
    return len(state.requests)


def alive_at() -> float:
    """Return the last time, on `clock.monotonic`, at which this process was able to receive a task."""
    return Transport.alive_at
