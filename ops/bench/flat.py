"""flat: what one run costs in a session that already holds 10, 100, 1,000 or 10,000 runs (promise 8).

One run: `enqueue`, then `execute` on the same thread, as a worker does it: claim, history (the last 3 runs), a model
that answers 2 kB at once, finish. Input and answer have 2,000 bytes. Real parts: a worker's Runtime with its keeper,
sweep and publisher, Valkey, SQLite and Postgres with fsync. Not in it: HTTP and Celery (`idle` has them).

One session a size. They keep their size: after each round the oldest run of each is removed, untimed, at the far end
from where runs read and write. The sizes take turns, each round begins with another one, so noise hits them alike.
The first rounds are counted and not timed, the others timed and not counted: counting costs time.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from sqlalchemy import text as sql

from ops.bench import databases, fill, flat_beside
from ops.bench.meter import Cost, Meter
from ops.bench.report import Check, Report, progress, spread, table
from worker.domain import ChatRequest, Reply, RunOrder, Usage
from worker.process import runtime as runtimes
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.settings import Settings
from worker.team import Team

SIZES = (10, 100, 1_000, 10_000)
COUNTED, TIMED = 20, 200
HISTORY_RUNS = 3
SLOWER_AT_MOST = 1.1
TEAM = "flat"


class InstantModel:
    """Answers 2 kB at once, and remembers how long the last context was."""

    id = "instant"
    sent = 0

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        self.sent = len(request.messages)
        answer = fill.text()
        on_delta(answer)
        return Reply(answer, (), Usage(1, 2_000, 0, 500))


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with ExitStack() as stack:
            url, broker = stack.enter_context(databases.new_database(kind)), stack.enter_context(databases.new_broker())
            settings = Settings.model_validate({"TEAM_SESSIONS_DATABASE_URL": url, "TEAM_SESSIONS_REDIS_URL": broker})
            model = InstantModel()
            team = Team(id=TEAM, model=model, add_history_to_context=True, num_history_runs=HISTORY_RUNS)
            dispatcher = Dispatcher(make_app(settings))
            runtime = runtimes.start(settings, dispatcher, {TEAM: team.definition}, ["runs"], isolated=None)
            stack.callback(runtime.close)
            runtime.sweep.start()
            times, costs = _rounds(runtime, kind, _sessions(runtime, kind))
            assert model.sent == 2 * HISTORY_RUNS + 1, f"the context had {model.sent} messages"
            version = databases.server_version(runtime.db)
        report.raw[kind] = {
            "version": version,
            "ms": times,
            "costs": {size: [asdict(cost) for cost in values] for size, values in costs.items()},
        }
        _add(report, kind, f"{kind} {version}", times, costs)
        if kind == "postgres":
            flat_beside.measure(report, times)


def one_run(runtime: Runtime, session_id: str, input: str) -> str:
    """Accept a run and execute it to its end; return its id."""
    order = RunOrder(TEAM, input, session_id=session_id, user_id="u")
    run = enqueue(runtime.db, order, settings=runtime.settings).run
    outcome = str(execute(runtime, run.id, TEAM))
    assert outcome == "completed", outcome
    return run.id


def _name(size: int) -> str:
    return f"session-{size:05d}"


def _sessions(runtime: Runtime, kind: str) -> dict[int, int]:
    """Make the sessions and return size → pk; check that what was copied looks like what a run leaves."""
    like = one_run(runtime, "original-run", fill.text())
    pks = {}
    for size in SIZES:
        progress(f"flat {kind}: a session of {size} runs")
        pks[size] = fill.fill(runtime.db, like=like, session_id=_name(size), count=size)
        real = one_run(runtime, _name(size), fill.text())
        problems = fill.differences(runtime.db, pk=pks[size], real=real)
        assert not problems, f"copied runs differ from executed ones: {problems}"
        fill.trim(runtime.db, pk=pks[size], keep=size)
    if not runtime.db.is_sqlite:
        # Autovacuum would do so at some moment inside the measurement.
        with runtime.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sql("VACUUM ANALYZE"))
    return pks


def _rounds(runtime: Runtime, kind: str, pks: dict[int, int]) -> tuple[dict[int, list[float]], dict[int, list[Cost]]]:
    """Return milliseconds and costs of single runs, by session size."""
    meter = Meter(runtime.db.engine)
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    costs: dict[int, list[Cost]] = {size: [] for size in SIZES}
    for n in range(COUNTED + TIMED):
        progress(f"flat {kind}: round {n + 1} of {COUNTED + TIMED}")
        turn = n % len(SIZES)
        for size in SIZES[turn:] + SIZES[:turn]:
            input = fill.text()
            if n < COUNTED:
                with meter.counting() as cost:
                    one_run(runtime, _name(size), input)
                costs[size].append(cost)
            else:
                began = time.perf_counter()
                one_run(runtime, _name(size), input)
                times[size].append((time.perf_counter() - began) * 1000)
        for size, pk in pks.items():
            fill.trim(runtime.db, pk=pk, keep=size)
    return times, costs


def _add(report: Report, kind: str, title: str, times: dict[int, list[float]], costs: dict[int, list[Cost]]) -> None:
    columns = list(asdict(Cost()))
    typical = {size: [_middle(costs[size], column) for column in columns] for size in SIZES}
    rows = [[f"{size:,}", f"{statistics.median(times[size]):.2f}", *typical[size]] for size in SIZES]
    head = ["runs in session", "median ms", *(column.replace("_", " ") for column in columns)]
    report.tables.append(
        table(f"flat, {title}: one run, median of {TIMED} (times) and of {COUNTED} (counts)", head, rows)
    )

    smallest, largest = times[SIZES[0]], times[SIZES[-1]]
    ratio = statistics.median(largest) / statistics.median(smallest)
    low, high = spread([b / a for a, b in zip(smallest, largest, strict=True)])
    result = f"{ratio:.3f} (quarters of the rounds: {low:.3f} to {high:.3f})"
    promise = f"flat {kind}: time at {SIZES[-1]:,} : at {SIZES[0]} is at most {SLOWER_AT_MOST}"
    report.checks.append(Check(promise, result, ratio <= SLOWER_AT_MOST))

    distinct = {cost.without_digits() for result in costs.values() for cost in result}
    promise = (
        f"flat {kind}: statements, rows and bytes are equal in all {COUNTED * len(SIZES)} counted runs, digits aside"
    )
    report.checks.append(
        Check(promise, "equal" if len(distinct) == 1 else f"{len(distinct)} different costs", len(distinct) == 1)
    )

    for column in ("visited", "blocks"):
        few, many = (_middle(costs[size], column) for size in (SIZES[0], SIZES[-1]))
        if few:
            promise = f"flat {kind}: what the database looks at ({column}) grows by at most {SLOWER_AT_MOST}"
            report.checks.append(Check(promise, f"{few} to {many}", many <= SLOWER_AT_MOST * few))


def _middle(costs: list[Cost], column: str) -> int:
    values: list[Any] = [getattr(cost, column) for cost in costs]
    return int(statistics.median(values))
