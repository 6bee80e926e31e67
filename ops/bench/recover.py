"""recover: what a run costs whose worker is killed in its middle: seconds to its end, and model calls paid.

A run of six model calls of a second each, with a tool call between two of them: six calls at least. When the fourth is
under way, `kill -9`. One of Postgres, Valkey and model server each, as in production; the lease as by default.

ours     Two workers, as `team-sessions up` starts them. The one that executes the run is killed, and not started again.
Agno     AgentOS with its durable queue and three attempts, else at its defaults; it is killed, and started again at
         once, as a supervisor does. https://docs.agno.com/agent-os/background-execution/durable-queue
Celery   The plain task around Agno's Team.run (ops/bench/peers/celery_agno.py); the worker and its processes are
         killed, and it is started again at once.

A call is paid when the model server was asked for it. `went on` is the time from the kill to the next call of the run.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

from ops.bench import databases
from ops.bench.beside import Counts, agno_rows, agnos_order, product_rows, until_ended
from ops.bench.peers import environment
from ops.bench.report import Check, Ratio, Report, progress, table
from ops.bench.service import service
from ops.bench.throughput import celery_name, celery_settings, celery_worker
from tests.support import look
from tests.support.model import model_server
from tests.support.system import wait_until
from worker.queue.embedded import free_port

INPUT, CALLS, KILLED_IN = "Look it up. [steps=5] [delay=1]", 6, 4
NAME, SESSION = "recover", "recover-1"
TIMES = 3  # ours; the others once each
GIVE_UP_S = {"Agno": 180.0, "Celery": 60.0, "Team Sessions": 60.0}
GOES_ON_S = 2.0  # a killed worker is noticed in less than a second


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of the run. Seconds from the kill; None: never, within GIVE_UP_S."""

    status: str
    went_on_s: float | None
    took_s: float | None
    paid: int


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    results: dict[str, list[Recovery]] = {"Team Sessions": []}
    for n in range(TIMES):
        progress(f"recover: ours, time {n + 1} of {TIMES}")
        results["Team Sessions"].append(_product())
    for name, peer in (f"Agno {environment.version('agno')}", _agno), (celery_name(), _celery):
        progress(f"recover: {name}")
        results[name] = [peer()]
    _add(report, results)


def _product() -> Recovery:
    with service("postgres", TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
        running.start_workers(2)
        client = running.start_api()
        run_id = client.enqueue("with-tool", INPUT, session_id=SESSION)["id"]
        _wait_for_call(running.journal_file)
        owner = int(look.row(running.db, run_id).lease_owner.rsplit(":", 2)[1])
        [worker] = [worker for worker in running.workers if worker.pid == owner]
        return _after(
            _kill([worker.pid]), product_rows(running.db), running.journal_file, give_up_s=GIVE_UP_S["Team Sessions"]
        )


def _agno() -> Recovery:
    with _peers_parts() as (directory, database, model, journal), agno_rows(database) as counts:
        port = free_port()
        settings = {"DATABASE": database, "PORT": str(port), "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
        settings |= {"QUEUE_ATTEMPTS": "3", "TOOLS": "yes"}
        start = partial(
            environment.serving, environment.python("agno"), "serve_agno.py", environment=settings, port=port
        )
        with start(log=directory / "agno-1.log") as process:
            with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                path, headers, body = agnos_order(SESSION, INPUT)
                connection.request("POST", path, body, headers)
                assert connection.getresponse().status == 202
            _wait_for_call(journal)
            killed = _kill([process.pid])
        with start(log=directory / "agno-2.log"):
            return _after(killed, counts, journal, give_up_s=GIVE_UP_S["Agno"])


def _celery() -> Recovery:
    with (
        _peers_parts() as (directory, database, model, journal),
        agno_rows(database) as counts,
        databases.new_broker() as broker,
    ):
        settings = {**celery_settings(database, broker=broker, model=model), "TOOLS": "yes"}
        inputs = directory / "inputs.json"
        inputs.write_text(json.dumps([(SESSION, INPUT)]))
        with celery_worker(settings, log=directory / "celery-1.log") as process:
            sending = {**settings, "INPUTS": str(inputs), "WARM_S": "0"}
            environment.run(environment.python("agno"), "send_celery.py", environment=sending)
            _wait_for_call(journal)
            killed = _kill([process.pid, *_children(process)])
        with celery_worker(settings, log=directory / "celery-2.log"):
            return _after(killed, counts, journal, give_up_s=GIVE_UP_S["Celery"])


@contextmanager
def _peers_parts() -> Iterator[tuple[Path, str, str, Path]]:
    """Give a directory, a database, a model server's address and its journal."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="ts-bench-")))
        database = stack.enter_context(databases.new_postgres()).new_database()
        journal = directory / "journal.jsonl"
        model = stack.enter_context(model_server("--journal", str(journal)))
        yield directory, database.replace("postgresql:", "postgresql+psycopg:"), model, journal


def _wait_for_call(journal: Path) -> None:
    called = partial(_calls, journal)
    wait_until(lambda: len(called()) == KILLED_IN, description=f"call {KILLED_IN} is under way", timeout_s=60)
    time.sleep(0.3)


def _calls(journal: Path) -> list[float]:
    """Return when the model server was asked."""
    if not journal.exists():
        return []
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    return [line["at"] for line in lines if line["event"] == "asked"]


def _kill(pids: list[int]) -> float:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return time.time()


def _children(process: Popen[bytes]) -> list[int]:
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text().split()]


def _after(killed: float, counts: Counts, journal: Path, *, give_up_s: float) -> Recovery:
    ended = until_ended(counts, NAME, 1, quiet_s=give_up_s)
    [status] = counts(NAME) or ["not there"]
    calls = _calls(journal)
    went_on = min((at - killed for at in calls if at > killed), default=None)
    over = status not in ("queued", "pending", "running", "not there")
    return Recovery(status, went_on, ended - killed if over else None, len(calls))


def _add(report: Report, results: dict[str, list[Recovery]]) -> None:
    rows = [
        [name, result.status, _format(result.went_on_s), _format(result.took_s), result.paid]
        for name, every in results.items()
        for result in every
    ]
    columns = ["side", "the run is", "went on after s", "ended after s", f"calls paid, of {CALLS}"]
    report.tables.append(table("recover: kill -9 in the middle of a run, on Postgres", columns, rows))
    product = results["Team Sessions"]
    seconds = ", ".join(_format(result.went_on_s) for result in product)
    text = f"{seconds} s, {', '.join(str(result.paid) for result in product)} calls"
    soon = all(result.went_on_s is not None and result.went_on_s <= GOES_ON_S for result in product)
    paid = all(result.status == "completed" and result.paid == CALLS + 1 for result in product)
    promise = f"recover: ours goes on within {GOES_ON_S:g} s, and pays again what was in flight alone"
    report.checks.append(Check(promise, text, soon and paid))
    worst = max(result.took_s or GIVE_UP_S["Team Sessions"] for result in product)
    for name, [result] in list(results.items())[1:]:
        if result.took_s is not None:  # else the run is lost, as the table says: there is nothing to compare with
            wrong = f"the run is {result.status}" * (result.status != "completed")
            report.compare(Ratio("recover: seconds to the end", "s", worst, name, result.took_s, wrong))
            report.compare(
                Ratio("recover: calls paid", "calls", max(o.paid for o in product), name, result.paid, wrong)
            )
    report.raw["runs"] = {name: [asdict(result) for result in every] for name, every in results.items()}


def _format(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"
