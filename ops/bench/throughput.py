"""throughput: how many runs a second are done of 400 and of 4,000 over 200 sessions, with a model that answers at once.

Over HTTP, beside Agno's durable queue: rounds of ops/bench/beside.py with 16 clients, from the first POST to the end of
the last run. Ours has the workers that `team-sessions up` starts by default: 2 processes of 100 threads. Beside both
LangGraph's development server, which keeps everything in memory (ops/bench/langgraph.py): no target.

From a script, beside a plain Celery task around Agno's Team.run: a process sends all orders one after the other, ours
with `team.enqueue`, the other with `.delay`, and others execute meanwhile: from the first order to the end of the last
run. Ours as above; Celery with its default, a process for each of two cores, one run in each. So both have two worker
processes; with a model that answers at once more threads gain nothing. Each has a Valkey of its own, both have
databases of one Postgres server, and everybody's database is as durable as in production.

The first round of each warms up. On Postgres whatever the kind.
"""

import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ops.bench import databases
from ops.bench.beside import (
    Counts,
    Load,
    Round,
    agno_rows,
    done,
    one_round,
    product_rows,
    sides,
    until_ended,
    wrongs,
)
from ops.bench.langgraph import langgraph
from ops.bench.peers import environment
from ops.bench.report import Check, Ratio, Report, progress, table
from tests.support.model import model_server
from tests.support.system import System, system

WORKERS, THREADS = 2, 100
FEW, MANY = Load(runs=400, sessions=200, clients=16), Load(runs=4_000, sessions=200, clients=16)
WARM_UP = Load(runs=100, sessions=50, clients=16)
PLAN = ((WARM_UP, 1), (FEW, 3), (MANY, 1))  # what is sent, and how many rounds of it
HTTP_AT_LEAST, SCRIPT_AT_LEAST = 5.0, 1.0
WARM_S = 2.0  # between the order that opens a script's connections and the first that counts

Rounds = dict[Load, dict[str, list[Round]]]


@dataclass(frozen=True, slots=True)
class Sender:
    """A script that sends, and where its runs are seen."""

    name: str
    program: Path
    script: str
    environment: Mapping[str, str]
    counts: Counts
    journal: Path


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with (
        TemporaryDirectory(prefix="ts-bench-") as directory,
        sides("postgres", workers=WORKERS, concurrency=THREADS) as both,
        langgraph(Path(directory)) as third,
    ):
        names = {side.name: partial(one_round, side) for side in (*both, third)}
        over_http = _rounds("over HTTP", names)
    with _senders() as senders:
        names = {sender.name: partial(_one_script, sender) for sender in senders}
        from_script = _rounds("from a script", names)
    _add(report, "over HTTP", over_http, at_least=HTTP_AT_LEAST)
    _add(report, "from a script", from_script, at_least=SCRIPT_AT_LEAST)


def _rounds(channel: str, senders: Mapping[str, partial[Round]]) -> Rounds:
    measured: Rounds = {}
    for load, rounds in PLAN:
        measured[load] = {name: [] for name in senders}
        for n in range(rounds):
            for name, send in senders.items():
                progress(f"throughput {channel}: {load.runs} runs, round {n + 1} of {rounds}, {name}")
                measured[load][name] += [send(f"{load.runs}-{n}", load)]
    del measured[WARM_UP]
    return measured


@contextmanager
def _senders() -> Iterator[tuple[Sender, Sender]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="ts-bench-")))
        postgres = stack.enter_context(databases.new_postgres())
        redis, teams = stack.enter_context(databases.new_broker()), {"TEAM_SESSIONS_TEAMS": "ops.bench.teams"}
        running = stack.enter_context(
            system(directory, database_url=postgres.new_database(), redis_url=redis, settings=teams)
        )
        running.start_workers(WORKERS, concurrency=THREADS)
        database = postgres.new_database().replace("postgresql:", "postgresql+psycopg:")
        yield _product(running), stack.enter_context(_celery(database, directory))


def _product(running: System) -> Sender:
    program = Path(sys.executable)
    return Sender(
        "Team Sessions", program, "send_here.py", running.environment, product_rows(running.db), running.journal_file
    )


@contextmanager
def _celery(database: str, directory: Path) -> Iterator[Sender]:
    journal = directory / "celery-journal.jsonl"
    with databases.new_broker() as broker, model_server("--journal", str(journal)) as model:
        settings = celery_settings(database, broker=broker, model=model)
        with celery_worker(settings, log=directory / "celery.log"), agno_rows(database) as counts:
            yield Sender(celery_name(), environment.python("agno"), "send_celery.py", settings, counts, journal)


def celery_name() -> str:
    """Return what the plain task is called in tables."""
    return f"Celery {environment.pinned('agno', 'celery')} around Agno"


def celery_settings(database: str, *, broker: str, model: str) -> dict[str, str]:
    """Return the environment of the plain task's worker, and of who sends to it."""
    settings = {"DATABASE": database, "BROKER": broker, "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
    return {**settings, "PYTHONPATH": str(environment.HERE)}


def celery_worker(settings: Mapping[str, str], *, log: Path) -> AbstractContextManager[environment.Process]:
    """Run a Celery worker with the plain task, while the block lasts."""
    python = str(environment.python("agno"))
    command = [python, "-m", "celery", "-A", "celery_agno", "worker", "--concurrency", str(WORKERS)]
    return environment.started(
        command, environment=settings, log=log, is_ready=lambda: "at work" in log.read_text(errors="replace")
    )


def _one_script(sender: Sender, name: str, load: Load) -> Round:
    with TemporaryDirectory(prefix="ts-bench-") as directory, ThreadPoolExecutor(1) as pool:
        inputs = Path(directory) / "inputs.json"
        inputs.write_text(json.dumps([(f"warm-{name}", "Hello."), *load.inputs(name)]))
        settings = {**sender.environment, "INPUTS": str(inputs), "WARM_S": str(WARM_S)}
        sent = pool.submit(environment.run, sender.program, sender.script, environment=settings)
        ended = until_ended(sender.counts, name, load.runs, every_s=load.poll_s)
        began, _took = sent.result()
    completed = sender.counts(name)["completed"]
    return Round(load, [], ended - began, completed, *done(sender.journal, load.inputs(name)))


def _add(report: Report, channel: str, measured: Rounds, *, at_least: float) -> None:
    rows = []
    for load, by_name in measured.items():
        for name, rounds in by_name.items():
            speeds = [result.speed for result in rounds]
            figures = [f"{speed:.0f}" for speed in (statistics.median(speeds), min(speeds), max(speeds))]
            rows.append([f"{load.runs:,}", name, len(rounds), *figures, wrongs(rounds) or "all, in order, once"])
        (_, product), *peers = by_name.items()
        what, speed = (
            f"throughput {channel}, {load.runs:,} runs: runs/s",
            statistics.median(result.speed for result in product),
        )
        for index, (peer, peer_rounds) in enumerate(peers):
            ratio = Ratio(
                what,
                "runs/s",
                speed,
                peer,
                statistics.median(result.speed for result in peer_rounds),
                wrongs(peer_rounds),
            )
            report.compare(ratio, at_least=None if index else at_least)  # the first is the one that is aimed at
        promise = f"throughput {channel}, {load.runs:,} runs: ours were executed once, those of a session in order"
        report.checks.append(Check(promise, wrongs(product) or "all", not wrongs(product)))
    columns = ["runs", "side", "rounds", "runs/s, median", "lowest", "highest", "done"]
    report.tables.append(table(f"throughput {channel}, over {FEW.sessions} sessions, model 0 ms", columns, rows))
    report.raw[channel] = {
        str(load.runs): {n: [asdict(r) for r in rs] for n, rs in by.items()} for load, by in measured.items()
    }
