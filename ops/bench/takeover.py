"""takeover: how long a run stands still after the `kill -9` of its worker, of two.

Thirty times on each database: a run of model calls of a second each is under way, the worker that executes it is
killed, and the time until the row says that the other one has claimed it is taken. Then a new second worker is started.
"""

import os
import signal
import time
from subprocess import Popen

from api_stub.client import Client
from ops.bench.report import Check, Report, progress, quantile, spread, table
from ops.bench.service import service
from tests.support import look
from tests.support.system import System, wait_until

INPUT, TIMES = "[steps=10] [delay=1]", 30
GIVE_UP_S = 60.0
AT_MOST_S = 1.0  # the 95th percentile


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    taken: dict[str, list[float]] = {}
    for kind in kinds:
        taken[kind] = []
        with service(kind, TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
            running.start_workers(2)
            client = running.start_api()
            for n in range(TIMES):
                progress(f"takeover {kind}: kill {n + 1} of {TIMES}")
                taken[kind].append(_once(running, client, n))
                running.start_worker()
    rows = [
        [kind, *(f"{value:.2f}" for value in (min(s), quantile(s, 0.5), quantile(s, 0.95), max(s)))]
        for kind, s in taken.items()
    ]
    report.tables.append(
        table("takeover: seconds from kill -9 to the next claim", ["database", "least", "p50", "p95", "most"], rows)
    )
    for kind, seconds in taken.items():
        soon = quantile(seconds, 0.95)
        promise = f"takeover {kind}: p95 of {TIMES} kills is at most {AT_MOST_S:g} s"
        report.checks.append(Check(promise, f"{soon:.2f} s ({spread(seconds)})", soon <= AT_MOST_S))
    report.raw["takeover_s"] = taken


def _once(running: System, client: Client, n: int) -> float:
    run_id = client.enqueue("with-tool", f"{n} {INPUT}", session_id=f"s{n}", user_id="u")["id"]
    wait_until(lambda: len(look.log(running.db, run_id)) >= 3, description="a turn is written")
    worker = _owner(running, run_id)
    killed_at = time.monotonic()
    os.kill(worker.pid, signal.SIGKILL)
    while look.row(running.db, run_id).attempt == 1 and time.monotonic() - killed_at < GIVE_UP_S:
        time.sleep(0.01)
    seconds = time.monotonic() - killed_at
    worker.wait()
    client.cancel(run_id)
    return seconds


def _owner(running: System, run_id: str) -> Popen[bytes]:
    pid = int(look.row(running.db, run_id).lease_owner.split(":")[1])
    return next(worker for worker in running.workers if worker.pid == pid)
