"""memory: what a worker process holds with 200 runs in flight.

One worker of 200 threads on Postgres. 200 runs, each in a new session, of a model that is silent for 20 s and then
answers in 200 words. Twice, since a process mostly keeps memory that it has once used. Read from the kernel each half
second, until all runs have ended: all pages of the process (RSS), and its share of pages that are shared (PSS).
"""

import time
from functools import partial

from ops.bench.processes import Memory, memory
from ops.bench.report import Check, Report, progress, table
from ops.bench.service import one_run, service, start_front
from tests.support import look
from tests.support.system import wait_until

RUNS, TIMES = 200, 2
INPUT = "Hello. [delay=20] [words=200]"
AT_MOST_MB = 160.0


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with service("postgres") as running:
        client = start_front(running, concurrency=RUNS)
        one_run(client, "same")
        pid = running.workers[0].pid
        samples: dict[str, list[Memory]] = {"after one run": [_now(pid)]}
        in_flight = partial(look.count, running.db, "running")
        for n in range(1, TIMES + 1):
            progress(f"memory: {RUNS} runs, time {n} of {TIMES}")
            for number in range(RUNS):
                client.enqueue("same", INPUT, session_id=f"memory-{n}-{number}")
            wait_until(lambda: in_flight() == RUNS, description=f"{RUNS} runs are in flight", timeout_s=60)
            series = samples[f"{RUNS} in flight, time {n}"] = [_now(pid)]
            while in_flight():
                time.sleep(0.5)
                series.append(_now(pid))
        completed = look.count(running.db, "completed")
    rows = [
        [
            what,
            len(series),
            f"{max(sample.rss for sample in series):.0f}",
            f"{max(sample.pss for sample in series):.0f}",
        ]
        for what, series in samples.items()
    ]
    columns = ["a worker process", "looks", "RSS MB, most", "PSS MB, most"]
    report.tables.append(table("memory, on Postgres", columns, rows))
    most = max(sample.rss for series in samples.values() for sample in series)
    promise = f"memory: a worker process with {RUNS} runs in flight holds at most {AT_MOST_MB:g} MB"
    report.checks.append(Check(promise, f"{most:.0f} MB", most <= AT_MOST_MB))
    promise = f"memory: all {TIMES * RUNS + 1} runs completed"
    report.checks.append(Check(promise, str(completed), completed == TIMES * RUNS + 1))
    report.raw["mb"] = {what: [(sample.rss, sample.pss) for sample in series] for what, series in samples.items()}


def _now(pid: int) -> Memory:
    sample = memory(pid)
    assert sample is not None
    return sample
