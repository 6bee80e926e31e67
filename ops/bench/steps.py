"""steps: what the durability of a run costs: six model calls and five tools, beside the same loop as steps of DBOS.

A model that answers at once, over HTTP, streamed; both databases of one Postgres server. Each writes every reply and
every result before it goes on. Timed is one run after the other, by a clock and by the cores that the process used:

ours  claim to finish: `execute` in a process as a worker's is, with its keeper, its sweep and its stream on Valkey,
      which each delta goes to. The run was accepted before.
DBOS  a workflow, called where it is executed (ops/bench/peers/steps_dbos.py). It publishes no deltas.

In turns, a new process of DBOS each time; the first runs of each turn warm up. Each run's messages are looked at,
untimed: one that is not whole ends the bench. On Postgres whatever the kind.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ops.bench import databases
from ops.bench.peers import environment
from ops.bench.report import Ratio, Report, progress, quantile, table
from tests.support import look
from tests.support.model import model_server
from worker import OpenAIChat, Team, tool
from worker.domain import Role, RunOrder
from worker.process import runtime as runtimes
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.settings import Settings

TEAM, INPUT = "steps", "Look it up. [steps=5]"
ROLES = [Role.USER, *[Role.ASSISTANT, Role.TOOL] * 5, Role.ASSISTANT]
TURNS, WARM_UP, RUNS = 4, 10, 60
AT_MOST = 1.0

Times = list[tuple[float, float]]  # milliseconds of each run: of a clock, of the cores


@tool
def look_up() -> str:
    """Look something up."""
    return "found"


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    peer = f"DBOS {environment.version('dbos')}"
    times: dict[str, Times] = {"Team Sessions": [], peer: []}
    with (
        databases.new_postgres() as postgres,
        model_server() as model,
        _runtime(postgres.new_database(), model) as product,
    ):
        database = postgres.new_database(empty=True).replace("postgresql:", "postgresql+psycopg:")
        settings = {"DATABASE": database, "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", "INPUT": INPUT}
        settings |= {"RUNS": str(RUNS), "WARM_UP": str(WARM_UP)}
        for turn in range(TURNS):
            progress(f"steps: turn {turn + 1} of {TURNS}, ours")
            times["Team Sessions"] += [_execute_run(product) for _ in range(WARM_UP + RUNS)][WARM_UP:]
            progress(f"steps: turn {turn + 1} of {TURNS}, {peer}")
            dbos_ms = environment.run(environment.python("dbos"), "steps_dbos.py", environment=settings)
            times[peer] += [(wall, cpu) for wall, cpu in dbos_ms]
    _add(report, times, peer)


@contextmanager
def _runtime(url: str, model: str) -> Iterator[Runtime]:
    with ExitStack() as stack:
        addresses = {"DATABASE_URL": url, "REDIS_URL": stack.enter_context(databases.new_broker())}
        settings = Settings.model_validate({f"TEAM_SESSIONS_{name}": value for name, value in addresses.items()})
        answering = OpenAIChat(id="rules", base_url=model, api_key="none")
        team = Team(id=TEAM, model=answering, tools=[look_up])
        dispatcher = Dispatcher(make_app(settings))
        runtime = runtimes.start(settings, dispatcher, {TEAM: team.definition}, ["runs"], isolated=None)
        stack.callback(runtime.close)
        runtime.sweep.start()
        yield runtime


def _execute_run(runtime: Runtime) -> tuple[float, float]:
    run = enqueue(runtime.db, RunOrder(TEAM, INPUT), settings=runtime.settings).run
    began = time.perf_counter(), time.process_time()
    outcome = str(execute(runtime, run.id, TEAM))
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    assert outcome == "completed", outcome
    roles = [message.role for message in look.log(runtime.db, run.id)]
    assert roles == ROLES, roles
    return took[0] * 1000, took[1] * 1000


def _add(report: Report, times: dict[str, Times], peer: str) -> None:
    rows = []
    for name, pairs in times.items():
        wall, cpu = ([pair[index] for pair in pairs] for index in (0, 1))
        figures = [statistics.median(wall), quantile(wall, 0.95), max(wall), statistics.median(cpu)]
        rows.append([name, len(pairs), *(f"{figure:.1f}" for figure in figures)])
    columns = ["side", "runs", "p50 ms", "p95", "max", "CPU ms, p50"]
    report.tables.append(table("steps: six model calls and five tools, claim to finish, on Postgres", columns, rows))
    for index, what in enumerate(("wall", "CPU")):
        product, peer_value = (statistics.median(pair[index] for pair in pairs) for pairs in times.values())
        report.compare(Ratio(f"steps: p50 of a run, {what}", "ms", product, peer, peer_value), at_most=AT_MOST)
    report.raw["ms"] = times
