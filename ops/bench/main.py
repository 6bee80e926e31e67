"""Measure the promises of the design, and print PASS or FAIL.

Everything is real and on loopback: SQLite on this disk, a Postgres server with fsync, a Valkey server, workers and an
API as processes, a rule-based model that answers at once. It starts and ends all of them, and touches nothing else.
Close other programs first: the limits are for an idle machine. The load is printed.
"""

import argparse
import json
import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from ops.bench import (
    accept,
    backlog,
    batches,
    condense,
    cost,
    delegations,
    deploy,
    first_token,
    flat,
    hot,
    idle,
    lanes,
    listing,
    live,
    memory,
    names,
    parallel,
    poison,
    prefix,
    recover,
    restarts,
    size,
    steps,
    stream,
    summaries,
    takeover,
    throughput,
)
from ops.bench.databases import KINDS
from ops.bench.plot import plot
from ops.bench.report import Check, Ratio, Report, machine, progress_done, ratio_table
from worker.observe import logs

SCENARIOS = {
    "flat": flat.measure,
    "idle": idle.measure,
    "hot": hot.measure,
    "throughput": throughput.measure,
    "accept": accept.measure,
    "steps": steps.measure,
    "backlog": backlog.measure,
    "recover": recover.measure,
    "takeover": takeover.measure,
    "restarts": restarts.measure,
    "list": listing.measure,
    "parallel": parallel.measure,
    "memory": memory.measure,
    "delegations": delegations.measure,
    "names": names.measure,
    "live": live.measure,
    "summaries": summaries.measure,
    "condense": condense.measure,
    "prefix": prefix.measure,
    "lanes": lanes.measure,
    "stream": stream.measure,
    "first-token": first_token.measure,
    "deploy": deploy.measure,
    "batches": batches.measure,
    "poison": poison.measure,
    "size": size.measure,
    "cost": cost.measure,
}
EPILOG = """
scenarios:
  flat   What one run costs, in time, statements, rows and bytes, in sessions of 10, 100, 1,000 and 10,000 runs. All of
         it must be equal, and the time at 10,000 at most 1.1 times that at 10. Compared with the
         growth at Agno and at the OpenAI Agents SDK. About 4 minutes.
  idle   From accepted to completed: p50 of 200 single runs at most 22 ms, 10 runs of one session at most 0.32 s; by
         the rows' times and by a client's clock. p50 at most 0.3 times that of Agno's durable queue. About 2 minutes.
  accept How long 16 concurrent clients wait for "accepted" while workers execute: p99 at most 0.25 times that of Agno's
         durable queue, in turns with it, same Postgres server. 5 to 10 minutes; the first time, pip installs Agno.
  hot    Time of 10 and of 100 runs of one session: at most a twentieth of that of Agno's durable queue. On Postgres.
         Compared with LangGraph's development server, in memory. About 3 minutes.
  throughput
         Runs a second of 400 and 4,000 over 200 sessions, with a model that answers at once: over HTTP at least 5 times
         those of Agno's durable queue, from a script at least those of a plain Celery task around Agno. On Postgres.
         Compared with LangGraph's development server, in memory. About 7 minutes.
  steps  A run of six model calls and five tools, model 0 ms: by a clock and in CPU at most the same loop as steps of
         DBOS. On Postgres. About 1 minute; the first time, pip installs DBOS.
  backlog
         Accept, claim, end and a sweep while 100,000 heads wait, or 100,000 runs after one: at most 1.2 times those
         with 100. About 3 minutes a database.
  recover
         A run whose worker is killed in its middle continues within 2 s, and pays one call again. Compared with Agno's
         durable queue, and a plain Celery task around Agno. On Postgres. 5 to 7 minutes, most of them Agno's.
  takeover
         Seconds from the kill -9 of one of two workers to the next claim: p95 of 30 at most 1 s. 3 minutes a database.
  restarts
         100 restarts of Postgres under load: no worker is taken for dead, and no run fails. About 8 minutes.
  list   A page of 20 sessions of a user with 10,000, over HTTP: p50 at most a quarter of that of AgentOS. 2 minutes.
  parallel
         50 runs/s of a model that takes 4 s, and 20 s: at least 95 % of them, p99 at most 1.2 times the model's;
         and where the processes saturate. With --workers and --threads, if given. On Postgres. About 4 minutes.
  memory A worker process with 200 runs in flight: at most 160 MB. On Postgres. About 1 minute.
  delegations
         Three parallel delegations against one, members with an 800 ms model: at most 1.15 times. About 1 minute.
  names  What each name that the product shares with Agno does in both, each in its own environment; the results must
         be those of ops/handbook/names.md. On SQLite. About half a minute; the first time, pip installs Agno.
  live   A real model, a small one that runs here, makes a summary, and the next run contains it. On SQLite. One or two
         minutes; the first time, pip installs the model (100 MB).
  summaries
         p50 of runs with summaries on, a refresh of 500 ms nearly always in flight: at most 1.05 times that of runs
         without summaries and as much history. Compared with Agno's Team.run, with and without. About 5 minutes.
  condense
         The prompts of a refresh in sessions of 10, 100, 1,000 and 10,000 runs: equal within 10 %. A first refresh over
         10,000 runs: bounded prompts, one worker killed in the middle, no piece twice but the one in flight.
         Compared with the prompts of Agno. About 4 minutes.
  prefix How much of each context equals the start of the one before it, over 100 runs, here and with Agno; here only
         new summaries change it. On SQLite. About half a minute.
  lanes  p50 of runs while 10,000 summaries are due and all slots for them are taken: at most 1.2 times that of the
         idle machine. About 4 minutes.
  stream From the model's chunk to the watcher's event, with 1, 100 and 1,000 watchers of one API process: all of them
         must get every event. About 2 minutes.
  first-token
         From sending an input to the first word over HTTP: at most 20 ms more than from the model called directly.
         About 1 minute.
  deploy A rolling deploy of 4 workers under 100 runs of 20 s: none may fail, no written reply may be requested again,
         and a run that is handed over continues within 2 s. On Postgres. About 3 minutes.
  batches
         100,000 sessions are planned as a batch, and the last items are begun as fast as the first. p50 of runs beside
         5,000 refreshes: at most 1.1 times that without. About 8 minutes a database.
  poison A run that kills its workers, while 100 others wait for a reply of 20 s: it fails, they complete. On
         Postgres. About 4 minutes.
  size   What a worker process takes, at rest and with 200 runs at once, and what a run leaves on Postgres and in Redis:
         no target; ops/handbook/sizing.md uses the figures. On Postgres. About 4 minutes.
  cost   What a plain run costs each process in processor time, and Redis in round trips: no target;
         ops/handbook/profiles.md uses the figures. On Postgres. About 1 minute.
  all    All of them, in less than two hours; with --database postgres in about one.

examples:
  ops/bench/run flat
  ops/bench/run idle accept list --database postgres
  ops/bench/run parallel --workers 4 --threads 250
  ops/bench/run all --json figures.json --plot figures
                                             each single figure, with machine, versions and load; the ratios drawn

The docstring of ops/bench/<scenario>.py says how it measures. Exit status: 0 if every check
passed, 1 if one failed, 2 if the bench was stopped.
"""


def main() -> None:
    """Run the chosen scenarios, print their tables, then each check with its verdict."""
    options = _options()
    for name in list(os.environ):
        is_setting = name.startswith(("TEAM_SESSIONS_", "OPENAI_")) or name in ("DATABASE_URL", "REDIS_URL")
        if is_setting and not name.startswith("TEAM_SESSIONS_TEST_"):
            del os.environ[name]  # no setting of this shell reaches what is measured
    logs.configure("WARNING", style="readable")  # the log of a run that fails inside the bench says why
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(int(options.minutes * 60))

    chosen = list(SCENARIOS) if "all" in options.scenario else options.scenario
    kinds = KINDS if options.database == "both" else (options.database,)
    raw: dict[str, Any] = {"machine": machine()}
    passed, ratios = True, list[Ratio]()
    for name in chosen:
        report, before = Report(), os.getloadavg()[0]
        slots = {"workers": options.workers, "threads": options.threads} if name == "parallel" else {}
        try:
            SCENARIOS[name](report, kinds, **slots)
        except Exception as error:  # noqa: BLE001 - the figures of the other scenarios are worth keeping
            traceback.print_exc()
            report.checks.append(Check(f"{name}: can be measured", f"{type(error).__name__}: {error}"[:300], False))
        progress_done()
        for table in report.tables:
            print(table, end="\n\n")
        for check in report.checks:
            print(f"{'PASS' if check.passed else 'FAIL'}  {check.promise}: {check.result}")
            passed &= check.passed
        load = {"before": round(before, 2), "after": round(os.getloadavg()[0], 2)}
        ratios += report.ratios
        print(f"load of this machine's {os.cpu_count()} cores: {load['before']} before, {load['after']} after\n")
        raw[name] = {**report.raw, "load": load, "checks": [asdict(check) for check in report.checks]}
    if ratios:
        print(ratio_table(ratios), end="\n\n")
        raw["ratios"] = [asdict(ratio) for ratio in ratios]
    if ratios and options.plot:
        title = f"Team Sessions and its peers: {raw['machine']['cores']} cores, {raw['machine']['cpu']}"
        print(*plot(ratios, options.plot, title=title), sep="\n")
    print(", ".join(f"{key} {value}" for key, value in raw["machine"].items()))
    if options.json:
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    sys.exit(0 if passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/bench/run", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", choices=[*SCENARIOS, "all"], nargs="+", metavar="SCENARIO")
    parser.add_argument("--database", choices=[*KINDS, "both"], default="both", help="default: both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure to FILE")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the ratios into DIR/beside.png and .svg")
    parser.add_argument("--minutes", type=float, default=150.0, help="stop after this time (default: 150)")
    parser.add_argument("--workers", type=int, help="parallel: worker processes (default: as up starts)")
    parser.add_argument("--threads", type=int, help="parallel: threads of each (default: as up starts, or as needed)")
    return parser.parse_args()


def _stop(number: int, _frame: FrameType | None) -> None:
    """End the bench by an exception, so that every process it started is ended."""
    print(f"\nstopped by {signal.Signals(number).name}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
