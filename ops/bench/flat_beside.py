"""flat, compared with libraries: how much longer one run takes in a long session with Agno and the OpenAI Agents SDK.

Each has its own script: Agno's `Team.run`, the SDK's `Runner.run` with its SQLAlchemySession. Both send the last three
runs to a model server that answers 2 kB at once, on Postgres. The figure is the growth: the time in a session of 10,000
runs, divided by that in one of 10. A peer's time includes a request over HTTP, which makes its growth look smaller;
that of Team Sessions does not.
"""

import json
import statistics
from collections.abc import Mapping

from ops.bench import databases
from ops.bench.peers import environment
from ops.bench.report import Ratio, Report, progress, table
from tests.support.model import model_server

PEERS = {"agno": ("Agno", "flat_agno.py"), "openai-agents": ("OpenAI Agents SDK", "flat_agents.py")}
INPUT = "Hello there. " * 150 + "[words=360]"  # 2 kB, and so long an answer
RUNS = 10


def measure(report: Report, product_ms: Mapping[int, list[float]]) -> None:
    """Measure the peers on Postgres, and compare with *ours*: milliseconds of runs by the size of their session."""
    sizes = list(product_ms)
    medians_by_side = {"Team Sessions": {size: statistics.median(ms) for size, ms in product_ms.items()}}
    for peer, (name, script) in PEERS.items():
        called = f"{name} {environment.version(peer)}"
        progress(f"flat: {called}")
        with model_server() as model, databases.new_postgres() as postgres:
            database = postgres.new_database(empty=True).replace("postgresql:", "postgresql+psycopg:")
            settings = {"DATABASE": database, "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", "INPUT": INPUT}
            settings |= {"SIZES": json.dumps(sizes), "RUNS": str(RUNS)}
            times = environment.run(environment.python(peer), script, environment=settings)
        report.raw[called] = times
        medians_by_side[called] = {size: statistics.median(times[str(size)]) for size in sizes}
    growth = {name: medians[sizes[-1]] / medians[sizes[0]] for name, medians in medians_by_side.items()}
    rows = [
        [name, *(f"{medians[size]:.1f}" for size in sizes), f"{growth[name]:.2f}"]
        for name, medians in medians_by_side.items()
    ]
    columns = ["runs in session", *(f"{size:,}" for size in sizes), "growth"]
    report.tables.append(
        table(f"flat, beside the libraries, postgres: p50 ms of one run ({RUNS} of each peer)", columns, rows)
    )
    for name in list(medians_by_side)[1:]:
        what = f"flat: growth of a run's time from {sizes[0]} to {sizes[-1]:,} runs"
        report.compare(Ratio(what, "times", growth["Team Sessions"], name, growth[name]))
