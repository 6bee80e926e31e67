"""hot: how long 10 and 100 runs of one session take, beside Agno's durable queue.

The runs of a session take turns, so this is what a turn costs beside the run itself: the end of one to the begin of the
next. One client sends them one after the other over HTTP, which is faster than they are executed, so all but the first
wait for the one before; from the first POST to the end of the last. Rounds of ops/bench/beside.py, each in a new
session, in turn, the first warms up. Beside both LangGraph's development server, which keeps everything in memory
(ops/bench/langgraph.py): no target. On Postgres whatever the kind.
"""

import statistics
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from ops.bench.beside import Load, Round, one_round, sides, wrongs
from ops.bench.langgraph import langgraph
from ops.bench.report import Check, Ratio, Report, progress, table

FEW, MANY = Load(runs=10, sessions=1, clients=1), Load(runs=100, sessions=1, clients=1)
PLAN = ((FEW, 6), (MANY, 1))  # what is sent, and how many rounds of it
AT_MOST = 0.05


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with (
        TemporaryDirectory(prefix="ts-bench-") as directory,
        sides("postgres") as both,
        langgraph(Path(directory)) as third,
    ):
        measured: dict[Load, dict[str, list[Round]]] = {}
        for load, rounds in PLAN:
            measured[load] = {side.name: [] for side in (*both, third)}
            for n in range(rounds):
                for side in (*both, third):
                    progress(f"hot: {load.runs} runs, round {n + 1} of {rounds}, {side.name}")
                    measured[load][side.name] += [one_round(side, f"hot-{load.runs}-{n}", load)]
    measured[FEW] = {name: rounds[1:] for name, rounds in measured[FEW].items()}
    _add(report, measured)


def _add(report: Report, measured: dict[Load, dict[str, list[Round]]]) -> None:
    rows = []
    for load, by_name in measured.items():
        for name, rounds in by_name.items():
            seconds = [result.took_s for result in rounds]
            figures = [f"{took:.3f}" for took in (statistics.median(seconds), min(seconds), max(seconds))]
            rows.append([load.runs, name, len(rounds), *figures, wrongs(rounds) or "all, in order, once"])
        (_, product), *peers = by_name.items()
        what, took = (
            f"hot, {load.runs} runs of one session: time",
            statistics.median(result.took_s for result in product),
        )
        for index, (peer, peer_rounds) in enumerate(peers):
            ratio = Ratio(
                what, "s", took, peer, statistics.median(result.took_s for result in peer_rounds), wrongs(peer_rounds)
            )
            report.compare(ratio, at_most=None if index else AT_MOST)  # the first is the one that is aimed at
        promise = f"hot, {load.runs} runs: ours were executed once, in order"
        report.checks.append(Check(promise, wrongs(product) or "all", not wrongs(product)))
        report.raw[str(load.runs)] = {name: [asdict(result) for result in rounds] for name, rounds in by_name.items()}
    columns = ["runs", "side", "rounds", "s, median", "lowest", "highest", "done"]
    report.tables.append(table("hot: runs of one session, model 0 ms", columns, rows))
