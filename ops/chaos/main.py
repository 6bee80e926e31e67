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
from ops.chaos.faults import FAULTS
from ops.chaos.play import Outcome, p50, play

SHOWN = 5  # violations of one promise that are printed
EPILOG = """
faults (one function each in ops/chaos/faults.py):
{faults}
broken builds (ops/chaos/broken.py); the checker must detect each:
{breaks}

examples:
  ops/chaos/run                               15 minutes on SQLite, then on Postgres
  ops/chaos/run --seconds 20 --database sqlite
  ops/chaos/run --seed 1234                   the same choices again; the machine's timing differs each time
  ops/chaos/run --seconds 20 --database postgres --break lock

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
        for promise, sentences in outcome.violations.items():
            for sentence in sentences[:SHOWN]:
                print(f"VIOLATION  {kind}: {promise}: {sentence}")


def _options() -> argparse.Namespace:
    faults = "\n".join(f"  {f.name:<26}{(f.do.__doc__ or '').splitlines()[0]}" for f in FAULTS.values())
    breaks = "\n".join(f"  {name:<10}{(off.__doc__ or '').splitlines()[0]}" for name, (off, _) in BREAKS.items())
    parser = argparse.ArgumentParser(
        prog="ops/chaos/run",
        description=__doc__,
        epilog=EPILOG.format(faults=faults, breaks=breaks),
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure and violation to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
