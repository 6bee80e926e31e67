"""parallel: many runs at the same time with a slow model, and where the processes saturate.

Asked are 50 runs a second over HTTP, each in a new session, at fixed times whatever happens to those before: with a
model that takes 4 s that is 200 in flight, with one that takes 20 s it is 1,000. Then, with a model that takes 1 s,
more and more a second, until the runs that end are fewer than 95 of 100 asked, or their p99 is past 1.2 times the
model's latency: there it saturates.

Workers as `team-sessions up` starts them by default, 2 processes of 100 threads, which is just enough for 200 in
flight; for more, as many threads as are needed, in 2 processes. --workers and --threads change both. By the rows'
times: accepted to completed; the rate is that from the first run that ended to the last. On Postgres whatever the kind.
"""

import itertools
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPConnection

from sqlalchemy import select

from ops.bench.processes import cpu_s
from ops.bench.report import Check, Report, progress, quantile, table
from ops.bench.service import service, start_front
from tests.support.system import System, wait_until
from worker.store.tables import runs, sessions

WORKERS, THREADS = 2, 100
ASKERS = 16
RATE_AT_LEAST, P99_AT_MOST = 0.95, 1.2
SATURATE_S, SATURATE_LATENCY_S, RATES = 10.0, 1.0, (50, 100, 150, 200, 300)


@dataclass(frozen=True, slots=True)
class Case:
    """The load: runs per second, for how long, and how long the model takes."""

    rate: int
    latency_s: float
    seconds: float

    @property
    def in_flight(self) -> int:
        """How many runs are executed at the same time, if all goes well."""
        return round(self.rate * self.latency_s)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. Rates in runs a second; times in seconds; CPU in milliseconds of a core for each run."""

    workers: int
    threads: int
    sent: int
    completed: int
    asked_rate: float
    rate: float
    in_flight: int
    p50_s: float
    p99_s: float
    worker_cpu_ms: float
    api_cpu_ms: float

    def keeps_up(self, case: Case) -> bool:
        """Tell whether the rate and the latency are as they are to be."""
        fast = self.rate >= RATE_AT_LEAST * case.rate and self.p99_s <= P99_AT_MOST * case.latency_s
        return fast and self.completed == self.sent


CASES = (Case(50, 4.0, 30.0), Case(50, 20.0, 50.0))


def measure(report: Report, _kinds: tuple[str, ...], *, workers: int | None = None, threads: int | None = None) -> None:
    """Measure once, on Postgres whatever the kind."""
    processes = workers or WORKERS
    results: list[tuple[Case, Result]] = []
    for case in CASES:
        results += _measure(processes, threads or max(THREADS, case.in_flight // processes), [case])
        _check(report, *results[-1])
    steps = [Case(rate, SATURATE_LATENCY_S, SATURATE_S) for rate in RATES]
    rising = _measure(processes, threads or max(THREADS, steps[-1].in_flight // processes), steps)
    _add(report, "parallel", results)
    _add(report, f"parallel: more and more a second, model {SATURATE_LATENCY_S:g} s", rising)
    kept = [case.rate for case, result in rising if result.keeps_up(case)]
    held, failed = f"{kept[-1]} runs/s are kept up with" if kept else "not even the first rate", rising[-1]
    more = "" if failed[1].keeps_up(failed[0]) else f", {failed[0].rate} are not"
    report.tables.append(f"parallel: with {failed[1].workers} processes of {failed[1].threads} threads {held}{more}")
    report.raw["cases"] = [{**asdict(case), **asdict(result)} for case, result in [*results, *rising]]


def _measure(workers: int, threads: int, cases: Sequence[Case]) -> list[tuple[Case, Result]]:
    """Measure these cases one after the other, up to the first that is not kept up with."""
    results: list[tuple[Case, Result]] = []
    with service("postgres") as running:
        start_front(running, workers=workers, concurrency=threads)
        _ask(running, "warm-up", Case(20, 0.1, 1.0))
        for case in cases:
            progress(f"parallel: {case.rate} runs/s of {case.latency_s:g} s, {workers} processes of {threads} threads")
            results.append((case, _measure_case(running, case, workers=workers, threads=threads)))
            if not results[-1][1].keeps_up(case):
                break
    return results


def _measure_case(running: System, case: Case, *, workers: int, threads: int) -> Result:
    pids = {"worker": [worker.pid for worker in running.workers], "api": [running.api.pid]}
    before = {name: sum(map(cpu_s, process_ids)) for name, process_ids in pids.items()}
    name = f"p-{case.rate}-{case.latency_s:g}"
    sent = _ask(running, name, case)
    used = {name: sum(map(cpu_s, process_ids)) - before[name] for name, process_ids in pids.items()}
    columns = (runs.c.created_at, runs.c.started_at, runs.c.finished_at)
    completed_here = sessions.c.session_id.like(f"{name}-%") & (runs.c.status == "completed")
    with running.db.read() as tx:
        rows = tx.execute(
            select(*columns).join(sessions, sessions.c.pk == runs.c.session_pk).where(completed_here)
        ).all()
    took = [(row.finished_at - row.created_at).total_seconds() for row in rows]
    ends, begins = sorted(row.finished_at.timestamp() for row in rows), sorted(row.created_at for row in rows)
    return Result(
        workers=workers,
        threads=threads,
        sent=sent,
        completed=len(rows),
        asked_rate=(sent - 1) / (begins[-1] - begins[0]).total_seconds(),
        rate=(len(ends) - 1) / (ends[-1] - ends[0]),
        in_flight=_most([(row.started_at.timestamp(), row.finished_at.timestamp()) for row in rows]),
        p50_s=quantile(took, 0.5),
        p99_s=quantile(took, 0.99),
        worker_cpu_ms=used["worker"] / sent * 1000,
        api_cpu_ms=used["api"] / sent * 1000,
    )


def _ask(running: System, name: str, case: Case) -> int:
    """Send the runs of a case at their times, and wait until none is left; return how many."""
    count = round(case.rate * case.seconds)
    with ThreadPoolExecutor(ASKERS) as pool:
        began = time.monotonic() + 0.5
        shares = [range(n, count, ASKERS) for n in range(ASKERS)]
        list(pool.map(lambda share: _asker(running, name, case, share, began), shares))
    unfinished = select(runs.c.id).where(runs.c.status.in_(["queued", "running"])).limit(1)

    def all_ended() -> bool:
        with running.db.read() as tx:
            return tx.execute(unfinished).one_or_none() is None

    wait_until(all_ended, description="all runs have ended", timeout_s=10 * case.latency_s + 4 * case.seconds + 30)
    return count


def _asker(running: System, name: str, case: Case, share: range, began: float) -> None:
    headers = {"Authorization": f"Bearer {running.key}", "Content-Type": "application/json"}
    port = int(running.url.rsplit(":", 1)[1])
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for n in share:
            time.sleep(max(0.0, began + n / case.rate - time.monotonic()))
            order = {"team": "same", "input": f"Hello. [delay={case.latency_s:g}]", "session_id": f"{name}-{n}"}
            connection.request("POST", "/v1/runs", json.dumps(order), headers)
            answer = connection.getresponse()
            read = answer.read()
            assert answer.status == 202, read[:500]


def _most(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many of these spans were open at the same time, at most."""
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    return max(itertools.accumulate(change for _, change in changes))


def _check(report: Report, case: Case, result: Result) -> None:
    text = f"{result.rate:.1f} runs/s, p99 {result.p99_s:.2f} s, {result.in_flight} in flight"
    text += f", {result.completed} of {result.sent} completed"
    what = f"parallel: {case.rate} runs/s of {case.latency_s:g} s: at least {RATE_AT_LEAST:.0%} of them"
    promise = f"{what}, p99 at most {P99_AT_MOST} times the model's"
    report.checks.append(Check(promise, text, result.keeps_up(case)))


def _add(report: Report, title: str, results: Sequence[tuple[Case, Result]]) -> None:
    rows = [
        [
            case.rate,
            f"{case.latency_s:g}",
            f"{result.workers} × {result.threads}",
            *(f"{figure:.1f}" for figure in (result.asked_rate, result.rate)),
            result.in_flight,
            *(f"{figure:.2f}" for figure in (result.p50_s, result.p99_s)),
            *(f"{figure:.1f}" for figure in (result.worker_cpu_ms, result.api_cpu_ms)),
            f"{result.completed} of {result.sent}",
        ]
        for case, result in results
    ]
    columns = ["runs/s", "model s", "processes", "asked/s", "ended/s", "in flight, most", "p50 s", "p99 s"]
    columns += ["workers' CPU ms a run", "the API's", "completed"]
    report.tables.append(table(f"{title}, on Postgres", columns, rows))
