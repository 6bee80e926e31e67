"""Break the product on purpose while it works; then count the promises that it broke.

Everything is real and on loopback: three workers for runs and one for summaries, an API, a Valkey, SQLite or a
Postgres server with fsync, a rule-based model. Users of about 40 sessions call it over HTTP at the
same time. All of it is started here, and ended at the end; nothing else is touched.
"""

import argparse
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from ops.bench.databases import KINDS
from ops.bench.report import machine, progress, progress_done, table
from ops.chaos.broken import BREAKS
from ops.chaos.checker import CHECKS
from ops.chaos.endure import endure
from ops.chaos.faults import FAULTS
from ops.chaos.outages import OUTAGES
from ops.chaos.play import Outcome, p50, play
from ops.chaos.system import NotPossible

OUTAGE_S = 120.0
OUTAGE_LEGEND = """
ended in it: runs that ended during the outage. paid again: answers of the model that were asked for again; in flight:
those of them whose process was hit before it could write them. effects: calls of tools; twice: those with more than one
effect. restarts: of processes that ended. MB: the most that one process had. s after it: from the end of the outage
until every run had ended."""
SHOWN = 5  # violations of one promise that are printed
EPILOG = """
faults (one function each in ops/chaos/faults.py):
{faults}
broken builds (ops/chaos/broken.py); the checker must detect each:
{breaks}
outages (ops/chaos/outages/), each alone, for all processes, with --outage:
{outages}

examples:
  ops/chaos/run                               15 minutes on SQLite, then on Postgres
  ops/chaos/run --seconds 20 --database sqlite
  ops/chaos/run --seed 1234                   the same choices again; the machine's timing differs each time
  ops/chaos/run --seconds 20 --database postgres --break lock
  ops/chaos/run --outage stopped_postgres --seconds 120 --runs 500
  ops/chaos/run --outage all --database sqlite     one after the other; about four minutes each

Exit status: 0 if every promise was kept, 1 if one was not, 2 if it was stopped.
"""


def main() -> None:
    """Play on each database, print a table, and exit with 0 if every promise was kept."""
    options = _options()
    for name in list(os.environ):
        is_setting = name.startswith(("TEAM_SESSIONS_", "OPENAI_")) or name in ("DATABASE_URL", "REDIS_URL")
        if is_setting and not name.startswith("TEAM_SESSIONS_TEST_"):
            del os.environ[name]  # no setting of this shell reaches what is broken
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # an exception, so that every process started here is ended
    if options.outage:
        sys.exit(_endure(options))
    seed = options.seed or str(random.randrange(2**32))
    print(f"seed {seed}: repeat it with --seed", flush=True)
    kinds = KINDS if options.database == "both" else (options.database,)
    seconds = options.seconds or options.minutes * 60
    outcomes = {
        kind: play(kind, seconds=seconds, seed=seed, only=options.only, broken=options.broken, tell=progress)
        for kind in kinds
    }
    progress_done()
    _print(outcomes)
    if options.json:
        figures = {kind: asdict(o) | {"faults": dict(o.faults)} for kind, o in outcomes.items()}
        options.json.write_text(json.dumps({"machine": machine(), **figures}, indent=1) + "\n")
    sys.exit(1 if any(outcome.violation_count for outcome in outcomes.values()) else 0)


def _endure(options: argparse.Namespace) -> int:
    """Play each outage on each database that it fits, print a table, and return the exit status."""
    names = list(OUTAGES) if "all" in options.outage else options.outage
    kinds = KINDS if options.database == "both" else (options.database,)
    done, left_out = [], []
    for name, kind in [(name, kind) for name in names for kind in kinds if OUTAGES[name].fits(kind)]:
        try:
            endured = endure(
                kind,
                name,
                seconds=options.seconds or OUTAGE_S,
                count=options.runs,
                broken=options.broken,
                tell=progress,
            )
        except NotPossible as error:
            left_out.append(f"{name} on {kind}: {error}")
            continue
        done.append(endured)
        if options.json:
            figures = [asdict(each) for each in done]
            options.json.write_text(json.dumps({"machine": machine(), "outages": figures}, indent=1) + "\n")
    progress_done()
    if done:
        rows = [[e.outage, e.kind, *e.counts.values(), f"{e.settled_s:.0f}", e.violation_count] for e in done]
        columns = ["outage", "database", *done[0].counts, "s after it", "violations"]
        print(table(f"outages of {done[0].seconds:g} s", columns, rows))
    print(OUTAGE_LEGEND)
    for endured in done:
        print(f"refused during {endured.outage} on {endured.kind}: {endured.refused}")
        _print_violations(f"{endured.outage} on {endured.kind}", endured.violations)
    for sentence in left_out:
        print(f"NOT PLAYED  {sentence}")
    return 1 if any(endured.violation_count for endured in done) else 0


def _print_violations(where: str, violations: dict[str, list[str]]) -> None:
    for promise, sentences in violations.items():
        for sentence in sentences[:SHOWN]:
            print(f"VIOLATION  {where}: {promise}: {sentence}")


def _print(outcomes: dict[str, Outcome]) -> None:
    every = list(outcomes.values())
    broken = [[name, *(len(o.violations[name]) for o in every)] for name in CHECKS]
    print(table("violations", ["promise", *outcomes], broken))
    rows: list[list[object]] = [[name, *(o.counts[name] for o in every)] for name in every[0].counts]
    rows.append(["recovered runs", *(len(o.recovery_s) for o in every)])
    rows.append(["claimed again, p50 s", *(f"{p50(o.recovery_s):.1f}" for o in every)])
    rows.append(["claimed again, max s", *(f"{max(o.recovery_s, default=0):.1f}" for o in every)])
    print("\n" + table("what happened", ["", *outcomes], rows))
    done = sum((o.faults for o in every), Counter[str]())
    print("\n" + table("faults", ["", *outcomes], [[name, *(o.faults[name] for o in every)] for name in sorted(done)]))
    print("\nrefused: " + "; ".join(f"{kind}: {o.refused}" for kind, o in outcomes.items()))
    for kind, outcome in outcomes.items():
        print(f"slowest to be claimed again on {kind}: " + "; ".join(outcome.slowest))
        _print_violations(kind, outcome.violations)


def _options() -> argparse.Namespace:
    faults = "\n".join(f"  {f.name:<26}{(f.do.__doc__ or '').splitlines()[0]}" for f in FAULTS.values())
    breaks = "\n".join(f"  {name:<10}{(off.__doc__ or '').splitlines()[0]}" for name, (off, _) in BREAKS.items())
    outages = "\n".join(f"  {o.name:<28}{o.about}" for o in OUTAGES.values())
    parser = argparse.ArgumentParser(
        prog="ops/chaos/run",
        description=__doc__,
        epilog=EPILOG.format(faults=faults, breaks=breaks, outages=outages),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="how long on each database (default: 15)")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--database", choices=[*KINDS, "both"], default="both", help="default: both")
    parser.add_argument("--seed", help="the seed that an earlier run printed")
    parser.add_argument(
        "--only", nargs="+", choices=list(FAULTS), default=(), metavar="FAULT", help="these faults only"
    )
    parser.add_argument("--break", dest="broken", choices=list(BREAKS), help="use a broken build")
    parser.add_argument(
        "--outage",
        nargs="+",
        choices=["all", *OUTAGES],
        metavar="OUTAGE",
        help=f"play these outages instead, each of --seconds (default: {OUTAGE_S:g})",
    )
    parser.add_argument("--runs", type=int, default=500, help="runs in flight or queued at an outage (default: 500)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and violation to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
