"""The real program, with a consumer that can be broken: `python -m tests.support.broken_worker worker …`, or `up …`.

The worker that first finds the file `break-the-consumer` in its data directory removes it and breaks its own consumer,
in the way that the file names.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from kombu.asynchronous import get_event_loop
from kombu.transport import redis

from worker.cli import up
from worker.cli.main import main
from worker.process import watchdog
from worker.queue.consumer import CarefulConsumer

SILENT_S = 5.0  # in place of half a minute
FILE = "break-the-consumer"


def block_the_loop() -> None:
    """The consumer's thread blocks in a lock, where no exception of a signal handler reaches it."""
    locked = threading.Lock()
    locked.acquire()
    loop = get_event_loop()
    assert loop is not None
    loop.call_soon(locked.acquire)  # type: ignore[no-untyped-call]  # kombu has few types


def reconnect_for_ever() -> None:
    """The consumer never makes its next connection, whatever the server answers. The test cuts the current one."""

    def never(self: CarefulConsumer, _connection: Any) -> NoReturn:
        while True:
            time.sleep(1)

    CarefulConsumer.ensure_connected = never  # type: ignore[assignment, method-assign]  # a broken build


def ask_for_nothing() -> None:
    """The consumer stays connected and its loop runs, but it requests no more messages."""
    redis.Channel._brpop_start = lambda _channel, timeout=None: None  # type: ignore[method-assign]  # as above


def raise_past_the_net() -> None:
    """The consumer fails where nothing expects it: while it clears up after a lost connection. The test cuts that."""

    def fail(_consumer: CarefulConsumer) -> NoReturn:
        raise RuntimeError("a bug in Celery")

    CarefulConsumer.on_close = fail


SILENT: dict[str, Callable[[], None]] = {f.__name__: f for f in (block_the_loop, reconnect_for_ever, ask_for_nothing)}
BREAKS = {**SILENT, raise_past_the_net.__name__: raise_past_the_net}


def break_on_request() -> None:
    """Wait for the file, and break what it names."""
    file = Path(os.environ["TEAM_SESSIONS_DATA_DIR"]) / FILE
    mine = file.with_name(f"{FILE}-{os.getpid()}")
    while True:
        time.sleep(0.1)
        try:
            file.rename(mine)
        except FileNotFoundError:
            continue
        BREAKS[mine.read_text()]()
        return


if __name__ == "__main__":
    watchdog.SILENT_S = SILENT_S
    up._program = lambda: [sys.executable, "-m", "tests.support.broken_worker"]
    if "worker" in sys.argv:
        threading.Thread(target=break_on_request, daemon=True).start()
    main()
