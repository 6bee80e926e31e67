"""deploy: what a run takes longer when a rolling deploy hands it over (promise 6).

Four workers of the older version, 100 sessions with a run each at any time, half of them four turns of 5 s with tools,
half one reply of 20 s. The schema is migrated, each worker is replaced by one of the newer version (SIGTERM, and a new
one is started at once), the API too, and what only the older version used is removed: the steps of
ops/handbook/runbooks/deploy.md. Versions: tests/support/versions.py. The grace of a model call is as by default.

A call that is longer than the grace is ended and made again elsewhere, from its beginning, and again where that worker
is the next to be replaced: that is the extra time of the long replies. A gap is the time from a result that is written
to the call of the model that follows it; in a run that is handed over between them, another worker has claimed it.
"""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from ops.bench import databases
from ops.bench.report import Check, Report, progress, quantile, table
from tests.support import look
from tests.support.rollout import People, faults, replace_api, replace_workers
from tests.support.system import System
from tests.support.versions import base_version, next_version
from worker.domain import Message, Role
from worker.store.tables import runs, sessions

WORKERS, RUNS = 4, 100
STORIES = (("with-tool", "[steps=3] [delay=5]", 4), ("plain", "[delay=20]", 1))
NAMES = {"with-tool": "4 turns of 5 s", "plain": "a reply of 20 s"}
WARM_S = 10.0  # so that runs are under way in all their turns
GAP_S = 2.0


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Deploy once, on Postgres whatever the kind."""
    with (
        tempfile.TemporaryDirectory(prefix="ts-bench-") as name,
        databases.new_postgres() as server,
        databases.new_broker() as redis,
    ):
        directory, url = Path(name), server.new_database(empty=True)
        old, new = base_version(directory), next_version(directory)
        environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": url}
        for version in (old, new):
            version.check(environment)
        old.migrate(environment=environment)
        with closing(System(directory, database_url=url, redis_url=redis)) as running:
            progress(f"deploy: {RUNS} runs on {old.name}")
            running.start_workers(WORKERS, concurrency=RUNS, code=old.path)
            running.start_api(code=old.path)
            people = People(running, RUNS, stories=STORIES, at_once=1)
            people.wait_for(RUNS)
            time.sleep(WARM_S)
            began = time.monotonic()
            progress("deploy: migrate")
            new.migrate(environment=environment)
            progress(f"deploy: replace {WORKERS} workers, one after the other")
            replace_workers(running, new, concurrency=RUNS)
            replace_api(running, new)
            new.migrate("--removing", environment=environment)
            took = time.monotonic() - began
            progress("deploy: the last runs")
            people.stop()
            problems = faults(running, people.accepted)
            _report(
                report, running, took=took, problems=problems, title=f"deploy, postgres, from {old.name} to {new.name}"
            )


def _report(report: Report, running: System, *, took: float, problems: Sequence[str], title: str) -> None:
    columns = (runs.c.id, sessions.c.team_id, runs.c.attempt, runs.c.created_at, runs.c.finished_at)
    with running.db.read() as tx:
        every = tx.execute(select(*columns).join(sessions, sessions.c.pk == runs.c.session_pk)).all()
    times: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for run in every:
        times[run.team_id, run.attempt > 1].append((run.finished_at - run.created_at).total_seconds())
    rows: list[Sequence[object]] = []
    for team, name in NAMES.items():
        stayed, moved = times[team, False], times[team, True]
        usual = statistics.median(stayed)
        longer = [f"{quantile(values, share) - usual:.2f}" for values in (stayed, moved) for share in (0.5, 0.95)]
        rows.append([name, len(stayed), f"{usual:.2f}", longer[1], len(moved), *longer[2:]])
    heads = ["runs", "not handed over", "p50 s", "p95 longer s", "handed over", "p50 longer s", "p95 longer s"]
    report.tables.append(table(f"{title}, {took:.0f} s", heads, rows))
    requested_at = {(line["user"], line["turn"]): line["at"] for line in running.journal() if line["event"] == "asked"}
    with_tools = [run for run in every if run.team_id == "with-tool"]
    usual_gaps = [_gap(look.log(running.db, run.id), requested_at) for run in with_tools if run.attempt == 1]
    gaps = [_gap(look.log(running.db, run.id), requested_at) for run in with_tools if run.attempt > 1]
    spread = [[f"{q:.3f}" for q in (quantile(g, 0.5), quantile(g, 0.95), max(g))] for g in (usual_gaps, gaps)]
    lines = [[name, *values] for name, values in zip(("not handed over", "handed over"), spread, strict=True)]
    report.tables.append(table("longest gap in a run with tools", ["", "p50 s", "p95 s", "max s"], lines))
    promises = {
        "nothing fails, nothing is paid twice": ("; ".join(problems) or f"0 of {len(every)} runs", not problems),
        f"goes on within {GAP_S:g} s": (f"p95 {spread[1][1]} s, max {spread[1][2]} s", max(gaps) <= GAP_S),
    }
    report.checks += [Check(f"deploy: {promise}", what, kept) for promise, (what, kept) in promises.items()]
    report.raw = {
        "seconds": took,
        "latency_s": {f"{team}, {'handed over' if moved else 'stayed'}": t for (team, moved), t in times.items()},
        "gaps_s": {"stayed": usual_gaps, "handed over": gaps},
    }


def _gap(log: Sequence[Message], requested_at: Mapping[tuple[str, int], float]) -> float:
    """Return the longest time from a result in a run to the last call for the reply behind it."""
    results = [m.created_at.timestamp() for m in log if m.role is Role.TOOL]
    return max(requested_at[log[0].content, turn] - at for turn, at in enumerate(results, 1))
