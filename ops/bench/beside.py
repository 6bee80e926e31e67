"""Beside Agno: ours and its durable queue behind HTTP, on one machine, with one Postgres server, in turns.

Ours: an API process and workers for runs, on Postgres or SQLite, with Valkey. Agno: AgentOS with
`QueueConfig(durable=True)` as its documentation shows it, one process that serves and works, always on Postgres: that
queue knows no SQLite. On Postgres both have a database of one server. Every database keeps what it said over a power
cut. Both teams are alike, and each has a model server of its own, which answers at once.

A round is a load: so many clients at once, each with a connection that it keeps and sessions of its own, send so many
runs to each of so many new sessions: first the first of each, then the second ones, and so on. A round is over when
its runs have ended, by the rows of the side: looking there is no load on its doors.

That what was accepted was also done is read from the rows (each run completed) and from the journals of the model
servers: each input once, and in a session each after the answer to the one before.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import create_engine, func, select
from sqlalchemy import text as sql
from sqlalchemy.exc import ProgrammingError

from ops.bench import databases
from ops.bench.peers import environment
from ops.bench.service import start_front
from tests.support.model import model_server
from tests.support.system import System, system
from worker.queue.embedded import free_port
from worker.store.engine import Database
from worker.store.tables import runs, sessions

QUIET_S = 60.0  # nothing has ended for so long: the rest never will
UNFINISHED = {"queued", "pending", "running"}

Door = tuple[str, dict[str, str], bytes]  # what to POST: path, headers, body
Counts = Callable[[str], Counter[str]]  # session ids that begin so → status → how many runs


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two, and how it is asked. `order` gives the request for (session, input)."""

    name: str
    port: int
    order: Callable[[str, str], Door]
    headers: dict[str, str]
    counts: Counts
    journal: Path
    database: str  # its address
    completed: Callable[[str], int] | None = None  # where its counts do not say so: how many runs completed


@dataclass(frozen=True, slots=True)
class Load:
    """What a round sends."""

    runs: int
    sessions: int
    clients: int

    @property
    def poll_s(self) -> float:
        """How often to look whether its runs have ended: to one in a hundred of what it takes, and no load itself."""
        return min(0.5, max(0.002, self.runs / 8_000))

    def inputs(self, name: str, sessions: range | None = None) -> list[tuple[str, str]]:
        """Return (session, input) of each run in the order in which they are sent; of some *sessions* only."""
        numbers = range(self.sessions) if sessions is None else sessions
        turns = range(1, self.runs // self.sessions + 1)
        return [(f"{name}-{n}", f"Input {turn} of session {name}-{n}.") for turn in turns for n in numbers]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found. The last three count: runs that completed, inputs asked once, sessions in order."""

    load: Load
    ms: list[float]  # from sending a POST to having read that it is accepted
    took_s: float  # from the first POST to the end of the last run
    completed: int
    once: int
    in_order: int

    @property
    def right(self) -> bool:
        """Tell whether all runs are there, in order, once."""
        return not self.wrong

    @property
    def wrong(self) -> str:
        """What was not done as it should be, or ''."""
        counts = {"runs completed": self.completed, "inputs asked once": self.once, "sessions in order": self.in_order}
        expected = (self.load.runs, self.load.runs, self.load.sessions)
        pairs = zip(counts.items(), expected, strict=True)
        return ", ".join(f"{count} of {all_} {what}" for (what, count), all_ in pairs if count != all_)

    @property
    def speed(self) -> float:
        """Runs that ended in a second."""
        return self.load.runs / self.took_s


@contextmanager
def sides(kind: str, *, workers: int = 1, concurrency: int = 20) -> Iterator[tuple[Side, Side]]:
    """Start ours, with so many workers of so many threads, and Agno; end both with the block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="ts-bench-")))
        postgres = stack.enter_context(databases.new_postgres())
        agnos = postgres.new_database().replace("postgresql:", "postgresql+psycopg:")
        database = postgres.new_database() if kind == "postgres" else stack.enter_context(databases.new_database(kind))
        redis, teams = stack.enter_context(databases.new_broker()), {"TEAM_SESSIONS_TEAMS": "ops.bench.teams"}
        running = stack.enter_context(system(directory, database_url=database, redis_url=redis, settings=teams))
        start_front(running, workers=workers, concurrency=concurrency)
        yield _product(running), stack.enter_context(agno(agnos, directory))


@contextmanager
def agno(database: str, directory: Path) -> Iterator[Side]:
    """Serve Agno's durable queue from an empty *database*, with files in *directory*."""
    journal, port = directory / "agno-journal.jsonl", free_port()
    with model_server("--journal", str(journal)) as model:
        settings = {"DATABASE": database, "PORT": str(port), "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
        program, log = environment.python("agno"), directory / "agno.log"
        with (
            environment.serving(program, "serve_agno.py", environment=settings, port=port, log=log),
            agno_rows(database) as counts,
        ):
            name = f"Agno {environment.version('agno')}"
            yield Side(name, port, agnos_order, {}, counts, journal, database)


def _product(running: System) -> Side:
    headers = {"Authorization": f"Bearer {running.key}"}

    def order(session: str, input: str) -> Door:
        body = json.dumps({"team": "same", "input": input, "session_id": session}).encode()
        return "/v1/runs", {**headers, "Content-Type": "application/json"}, body

    port = int(running.url.rsplit(":", 1)[1])
    return Side(
        "Team Sessions", port, order, headers, product_rows(running.db), running.journal_file, running.database_url
    )


def agnos_order(session: str, input: str) -> Door:
    """Return the request by which AgentOS is given a run of the team for its durable queue."""
    fields = {"message": input, "session_id": session, "background": "true", "stream": "false"}
    return "/teams/t/runs", {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode()


def product_rows(db: Database) -> Counts:
    """Return what counts our runs."""

    def counts(name: str) -> Counter[str]:
        mine = sessions.c.session_id.like(f"{name}-%")
        joined = runs.join(sessions, sessions.c.pk == runs.c.session_pk)
        statement = select(runs.c.status, func.count()).select_from(joined).where(mine).group_by(runs.c.status)
        with db.read() as tx:
            return Counter({str(status): int(count) for status, count in tx.execute(statement)})

    return counts


@contextmanager
def agno_rows(database: str) -> Iterator[Counts]:
    """Give what counts Agno's runs."""
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    statement = sql("SELECT lower(status), count(*) FROM ai.agno_runs WHERE session_id LIKE :mine GROUP BY 1")

    def counts(name: str) -> Counter[str]:
        with engine.connect() as connection:
            try:
                rows: Sequence[Any] = connection.execute(statement, {"mine": f"{name}-%"}).all()
            except ProgrammingError:  # it makes its tables when it first needs them
                return Counter()
        return Counter({str(status): int(count) for status, count in rows})

    try:
        yield counts
    finally:
        engine.dispose()


def one_round(side: Side, name: str, load: Load) -> Round:
    """Send a load, wait until its runs have ended, and say what was done."""
    together = Barrier(load.clients)
    with ThreadPoolExecutor(load.clients) as pool:
        shares = [load.inputs(name, range(n, load.sessions, load.clients)) for n in range(load.clients)]
        began = time.time()
        ms = [
            accepted_ms
            for client in pool.map(lambda share: _client(side, share, together), shares)
            for accepted_ms in client
        ]
    ended = until_ended(side.counts, name, load.runs, every_s=load.poll_s)
    completed = side.completed(name) if side.completed else side.counts(name)["completed"]
    return Round(load, ms, ended - began, completed, *done(side.journal, load.inputs(name)))


def wrongs(rounds: Sequence[Round]) -> str:
    """Say what was wrong in any of these rounds, or ''."""
    return "; ".join(result.wrong for result in rounds if result.wrong)


def _client(side: Side, inputs: Sequence[tuple[str, str]], together: Barrier) -> list[float]:
    """Send this client's runs, one after the other, over one connection; return what each took to be accepted."""
    ms = []
    with closing(HTTPConnection("127.0.0.1", side.port, timeout=60)) as connection:
        connection.connect()
        together.wait()
        for session, input in inputs:
            path, headers, body = side.order(session, input)
            began = time.perf_counter()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            read = answer.read()
            ms.append((time.perf_counter() - began) * 1000)
            assert answer.status in (200, 202), f"{side.name}: {answer.status} {read[:500]!r}"
    return ms


def until_ended(counts: Counts, name: str, count: int, *, every_s: float = 0.02, quiet_s: float = QUIET_S) -> float:
    """Wait until so many runs have ended, or none has for long; return the time at which the last one had."""
    last_count, at = -1, time.time()
    while last_count < count and time.time() < at + quiet_s:
        ended = sum(number for status, number in counts(name).items() if status not in UNFINISHED)
        if ended != last_count:
            last_count, at = ended, time.time()
        time.sleep(every_s)
    return at


def done(journal: Path, inputs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Return how many of these inputs the model was asked once, and how many sessions had theirs in order."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    requests = Counter(line["user"] for line in lines if line["event"] == "asked")
    at = {(line["user"], line["event"]): line["at"] for line in lines}
    by_session: dict[str, list[str]] = {}
    for session, input in inputs:  # as they were sent
        by_session.setdefault(session, []).append(input)
    never = float("nan")  # compares with nothing
    ordered = [
        all(at.get((a, "answered"), never) <= at.get((b, "asked"), never) for a, b in itertools.pairwise(in_session))
        for in_session in by_session.values()
    ]
    return sum(requests[input] == 1 for _, input in inputs), sum(ordered)
