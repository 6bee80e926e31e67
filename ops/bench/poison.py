"""poison: what a run that ends its processes costs 100 others that wait for a reply of 20 s in the same worker.

Postgres, the lease as by default, one worker with room for all, which is started again whenever it dies. The runs are
under way when one is accepted that kills its process with its first model call. Twice it takes the worker with it, and
all others; then each of the 101 is a suspect, and has a process of its own, 16 at a time.
"""

import statistics
import time
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread

from ops.bench.processes import memory
from ops.bench.report import Check, Report, progress, table
from ops.bench.service import service
from tests.support import look
from tests.support.supervised import started_again
from tests.support.system import System, wait_until

NEIGHBOURS, REPLY_S = 100, 20
ROOM = 150
LATEST_S = 420.0


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with service("postgres", TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
        running.start_worker(concurrency=ROOM)
        client = running.start_api()
        for n in range(NEIGHBOURS):
            client.enqueue("plain", f"{n} [delay={REPLY_S}]", session_id=f"s{n}")
        wait_until(lambda: look.count(running.db, "running") == NEIGHBOURS, description="all are under way")
        with started_again(running, concurrency=ROOM) as deaths, _memory(running) as samples:
            began = time.time()
            poison = client.enqueue("deadly", "die", session_id="p")["id"]
            while (left := _left(running)) and time.time() < began + LATEST_S:
                progress(f"poison: {left} of {NEIGHBOURS + 1} runs have not ended, {len(deaths)} workers died")
                time.sleep(1)
            took = time.time() - began
        failed, done = look.row(running.db, poison), look.count(running.db, "completed")
    count, most = max((len(sizes) for sizes in samples), default=0), max((sum(sizes) for sizes in samples), default=0)
    each = statistics.median([size for sizes in samples for size in sizes] or [0])
    rows = [[f"{took:.0f}", len(deaths), count, f"{each:.0f}", f"{most:.0f}"]]
    columns = ["all ended after s", "workers died", "processes of one run, most", "MB each, p50", "MB all, most"]
    report.tables.append(table(f"poison: beside {NEIGHBOURS} runs", columns, rows))
    promise = f"poison: the run fails with workers_lost, and {NEIGHBOURS} runs beside it are completed"
    result = f"{failed.error_code}; {done} completed"
    report.checks.append(Check(promise, result, failed.error_code == "workers_lost" and done == NEIGHBOURS))


def _left(running: System) -> int:
    return look.count(running.db, "queued") + look.count(running.db, "running")


class _memory:  # noqa: N801 - reads as a function
    """Note each second what the processes of one run have for themselves, in MB (PSS)."""

    def __init__(self, running: System) -> None:
        self._running = running
        self._over = Event()
        self._samples: list[list[float]] = []
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> list[list[float]]:
        self._thread.start()
        return self._samples

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1):
            self._samples.append([size for worker in list(self._running.workers) for size in _of_its_runs(worker)])


def _of_its_runs(worker: Popen[bytes]) -> list[float]:
    """Return the memory of a worker's grandchildren: its child is the server that they are forked from."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(status.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(status.parent.name))
        except OSError:
            continue
    grandchildren = (pid for child in parents.get(worker.pid, []) for pid in parents.get(child, []))
    return [held.pss for held in map(memory, grandchildren) if held is not None]
