"""The whole service for a bench, as processes: model server, API, a worker for runs, one or more for summaries."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from subprocess import Popen

import httpx2
from sqlalchemy import func, select

from api_stub.client import Client
from ops.bench import databases
from tests.support.system import PROGRAM, System, system, wait_until
from worker.store.tables import summary_jobs


@dataclass(frozen=True, slots=True)
class Timed:
    """A run that completed: from when to when by its row, in seconds of the epoch, and how long for the client."""

    run_id: str
    accepted: float
    completed: float
    client_ms: float

    @property
    def ms(self) -> float:
        """Accepted → completed, in milliseconds."""
        return (self.completed - self.accepted) * 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A summary that the model server was asked for. `answered` inf: not yet, or its asker was killed.

    `size` is that of the prompt in characters, `last_line` its last one: the end of the piece that it condenses.
    """

    sent_at: float
    answered: float
    size: int
    last_line: str

    def overlaps(self, begin: float, end: float) -> bool:
        """Tell whether it was in flight between two times."""
        return self.sent_at <= end and self.answered > begin


@contextmanager
def service(kind: str, **settings: str) -> Iterator[System]:
    """Serve the teams of ops/bench/teams.py, or those that *settings* name, from a new database of *kind*.

    Nothing is started yet but the model.
    """
    with ExitStack() as stack:
        url, redis = stack.enter_context(databases.new_database(kind)), stack.enter_context(databases.new_broker())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-bench-")))
        defaults = {"TEAM_SESSIONS_TEAMS": "ops.bench.teams", **settings}
        yield stack.enter_context(system(directory, database_url=url, redis_url=redis, settings=defaults))


def start_front(running: System, *, workers: int = 1, concurrency: int = 20) -> Client:
    """Start an API and workers for runs, and wait until a run could be executed."""
    running.start_workers(workers, concurrency=concurrency)
    client = running.start_api()
    readiness = f"{running.url}/readyz"
    wait_until(
        lambda: httpx2.get(readiness).status_code == 200, description="the API says that a run could be executed"
    )
    return client


def start_summaries(running: System, count: int = 1) -> list[Popen[bytes]]:
    """Start workers for summaries."""
    names = [f"summaries-{n}" for n in range(1, count + 1)]
    command = [*PROGRAM, "worker", "--queues", "summaries"]
    started = [running.start(name, command, environment=running.environment) for name in names]
    for name in names:
        running.wait_for_log(name, "worker ready", timeout_s=60)
    return started


def one_run(client: Client, team: str, session_id: str | None = None, *, input: str = "Hello.") -> Timed:
    """Have a run executed and wait for it."""
    began = time.perf_counter()
    run = client.enqueue(team, input, session_id=session_id)
    done = client.run(run["id"], wait_s=10)
    took = time.perf_counter() - began
    assert done["status"] == "completed", done
    accepted, completed = (datetime.fromisoformat(str(at)) for at in (run["created_at"], done["finished_at"]))
    return Timed(run["id"], accepted.timestamp(), completed.timestamp(), took * 1000)


def summary_calls(running: System) -> list[Call]:
    """Return the summaries that the model server was asked for so far, in the order of asking."""
    lines = [line for line in running.journal() if line["summary"]]
    answered = {line["call"]: line["at"] for line in lines if line["event"] == "answered"}
    return [
        Call(line["at"], answered.get(line["call"], float("inf")), line["size"], line["user"])
        for line in lines
        if line["event"] == "asked"
    ]


def open_summaries(running: System) -> int:
    """Return how many summaries are wanted and not made yet."""
    with running.db.read() as tx:
        return tx.execute(select(func.count()).select_from(summary_jobs)).scalar_one()


def wait_for_summaries(running: System, *, timeout_s: float = 60) -> None:
    """Wait until every summary that was due is made."""
    wait_until(partial(_none, running), description="all summaries are made", timeout_s=timeout_s)


def _none(running: System) -> bool:
    return open_summaries(running) == 0
