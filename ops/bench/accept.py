"""accept: how long 16 concurrent clients wait for "accepted", compared with Agno's durable queue.

A round (ops/bench/beside.py) sends 400 runs, two to each of 200 new sessions. The time is that of one POST, from
sending it to having read its response. The workers execute at the same time, as in production. The next round begins
when all runs have ended; the two products take turns, and the first round of each warms up.
"""

import statistics
from dataclasses import asdict

from ops.bench.beside import Load, Round, one_round, sides, wrongs
from ops.bench.report import Check, Ratio, Report, progress, quantile, table

LOAD, ROUNDS = Load(runs=400, sessions=200, clients=16), 5
AT_MOST = 0.25


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database, beside Agno on Postgres."""
    for kind in kinds:
        with sides(kind) as both:
            rounds: dict[str, list[Round]] = {side.name: [] for side in both}
            for n in range(ROUNDS + 1):
                for side in both:
                    progress(f"accept {kind}: round {n} of {ROUNDS}, {side.name}")
                    rounds[side.name] += [one_round(side, f"{kind}-{n}", LOAD)]
        _add(report, kind, {name: measured[1:] for name, measured in rounds.items()})


def _add(report: Report, kind: str, rounds: dict[str, list[Round]]) -> None:
    rows, p99 = [], {name: [quantile(measured.ms, 0.99) for measured in all_] for name, all_ in rounds.items()}
    ms = {name: [ms for measured in all_ for ms in measured.ms] for name, all_ in rounds.items()}
    for name, measured in rounds.items():
        times = [statistics.median(ms[name]), quantile(ms[name], 0.99), min(p99[name]), max(p99[name]), max(ms[name])]
        counts = [
            sum(result.completed for result in measured),
            sum(result.once for result in measured),
            sum(result.in_order for result in measured),
        ]
        speed = statistics.median(result.speed for result in measured)
        rows.append([name, len(ms[name]), *(f"{time:.1f}" for time in times), f"{speed:.0f}", *counts])
    columns = ["side", "runs", "p50 ms", "p99", "lowest p99 of a round", "highest", "max", "runs/s to the end"]
    columns += ["completed", "asked once", "sessions in order"]
    title = f"accept, Team Sessions on {kind}: from sending a POST to having read its response, {LOAD.clients} clients"
    report.tables.append(table(title, columns, rows))

    product, peer = rounds
    both = [quantile(ms[name], 0.99) for name in rounds]
    wrong = wrongs(rounds[peer])
    report.compare(Ratio(f"accept {kind}: p99", "ms", both[0], peer, both[1], wrong), at_most=AT_MOST)
    right = sum(result.right for result in rounds[product])
    promise = f"accept {kind}: all {LOAD.runs} runs were executed once, those of a session in order"
    report.checks.append(Check(promise, f"in {right} of {ROUNDS} rounds", right == ROUNDS))
    report.raw[kind] = {name: [asdict(result) for result in measured] for name, measured in rounds.items()}
