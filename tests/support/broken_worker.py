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
    """The consumer's thread stands still for ever, and can be reached by no signal handler's exception."""
    locked = threading.Lock()
    locked.acquire()
    loop = get_event_loop()
    assert loop is not None
    loop.call_soon(locked.acquire)  # type: ignore[no-untyped-call]  # kombu has few types


def reconnect_for_ever() -> None:
    """The next connection of the consumer is never made, whatever the server answers. The test cuts the present one."""

    def never(self: CarefulConsumer, _connection: Any) -> NoReturn:
        while True:
            time.sleep(1)

    CarefulConsumer.ensure_connected = never  # type: ignore[assignment, method-assign]  # a broken build


def ask_for_nothing() -> None:
    """The consumer stays connected and its loop turns, but it asks for no message any more."""
    redis.Channel._brpop_start = lambda _channel, timeout=None: None  # type: ignore[method-assign]  # as above


BREAKS: dict[str, Callable[[], None]] = {f.__name__: f for f in (block_the_loop, reconnect_for_ever, ask_for_nothing)}


def break_when_told() -> None:
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
    up._ourselves = lambda: [sys.executable, "-m", "tests.support.broken_worker"]
    if "worker" in sys.argv:
        threading.Thread(target=break_when_told, daemon=True).start()
    main()
