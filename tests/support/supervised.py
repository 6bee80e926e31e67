"""A supervisor of workers: one that died is started again."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tests.support.system import System


@contextmanager
def started_again(running: System, *, concurrency: int = 20, **settings: str) -> Iterator[list[int]]:
    """Start a worker for each that dies, as a supervisor does; yield how they ended, so far."""
    over, deaths = Event(), []

    def supervise() -> None:
        seen: set[int] = set()
        while not over.wait(0.1):
            for worker in list(running.workers):
                if worker.poll() is not None and worker.pid not in seen:
                    seen.add(worker.pid)
                    deaths.append(int(worker.returncode))
                    running.start_worker(concurrency=concurrency, **settings)

    thread = Thread(target=supervise)
    thread.start()
    try:
        yield deaths
    finally:
        over.set()
        thread.join()
