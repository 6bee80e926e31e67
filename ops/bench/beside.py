"""The comparison with Agno: Team Sessions and Agno's durable queue over HTTP, on one machine, in turns.

Team Sessions: an API process and workers for runs, on Postgres or SQLite, with Valkey. Agno: AgentOS with
`QueueConfig(durable=True)` as its documentation shows it, one process that serves and works, always on Postgres: that
queue does not support SQLite. On Postgres both use databases of one server. Every database is durable over a power cut.
Both teams are alike, and each has its own model server, which answers at once.

A round sends a `Load`: concurrent clients, each with its own connection and sessions, send runs to new sessions: the
first run of each session, then the second, and so on. A round is over when its runs have ended, by the rows of the
product: polling them puts no load on its API.

Rows and the journals of the model servers show whether the accepted runs were executed: each run completed, each input
sent once, and in a session each after the answer to the one before.
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
from worker.store import Database
from worker.store.tables import runs, sessions

QUIET_S = 60.0  # no run has ended for this long: the rest never will
UNFINISHED = {"queued", "pending", "running"}

Door = tuple[str, dict[str, str], bytes]  # what to POST: path, headers, body
Counts = Callable[[str], Counter[str]]  # prefix of session ids → status → number of runs


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two products, and how to call it. `order` returns the request for (session, input)."""

    name: str
    port: int
    order: Callable[[str, str], Door]
    headers: dict[str, str]
    counts: Counts
    journal: Path
    database: str  # its address
    completed: Callable[[str], int] | None = None  # if its counts do not have it: the number of completed runs


@dataclass(frozen=True, slots=True)
class Load:
    """What a round sends."""

    runs: int
    sessions: int
    clients: int

    @property
    def poll_s(self) -> float:
        """How often to poll for its end: exact to a hundredth of its time, without being a load itself."""
        return min(0.5, max(0.002, self.runs / 8_000))

    def inputs(self, name: str, sessions: range | None = None) -> list[tuple[str, str]]:
        """Return (session, input) of each run in the order of sending; only of *sessions*, if given."""
        numbers = range(self.sessions) if sessions is None else sessions
        turns = range(1, self.runs // self.sessions + 1)
        return [(f"{name}-{n}", f"Input {turn} of session {name}-{n}.") for turn in turns for n in numbers]


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one round. The last three count completed runs, inputs sent once, sessions in order."""

    load: Load
    ms: list[float]  # from sending a POST to having read that it is accepted
    took_s: float  # from the first POST to the end of the last run
    completed: int
    once: int
    in_order: int

    @property
    def right(self) -> bool:
        """Whether all runs were executed, in order, once."""
        return not self.wrong

    @property
    def wrong(self) -> str:
        """What was not done correctly, or ''."""
        counts = {"runs completed": self.completed, "inputs sent once": self.once, "sessions in order": self.in_order}
        expected = (self.load.runs, self.load.runs, self.load.sessions)
        pairs = zip(counts.items(), expected, strict=True)
        return ", ".join(f"{count} of {all_} {what}" for (what, count), all_ in pairs if count != all_)

    @property
    def speed(self) -> float:
        """Runs that ended in a second."""
        return self.load.runs / self.took_s


@contextmanager
def sides(kind: str, *, workers: int = 1, concurrency: int = 20) -> Iterator[tuple[Side, Side]]:
    """Start Team Sessions and Agno; end both with the block."""
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
    """Return the request that enqueues a run in AgentOS's durable queue."""
    fields = {"message": input, "session_id": session, "background": "true", "stream": "false"}
    return "/teams/t/runs", {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode()


def product_rows(db: Database) -> Counts:
    """Return a function that counts the product's runs."""

    def counts(name: str) -> Counter[str]:
        mine = sessions.c.session_id.like(f"{name}-%")
        joined = runs.join(sessions, sessions.c.pk == runs.c.session_pk)
        statement = select(runs.c.status, func.count()).select_from(joined).where(mine).group_by(runs.c.status)
        with db.read() as tx:
            return Counter({str(status): int(count) for status, count in tx.execute(statement)})

    return counts


@contextmanager
def agno_rows(database: str) -> Iterator[Counts]:
    """Yield a function that counts Agno's runs."""
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
    """Send a load, wait until its runs have ended, and return the result."""
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
    """Return what was wrong in these rounds, or ''."""
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
    """Wait until *count* runs have ended, or none has for *quiet_s*; return when the last one ended."""
    last_count, at = -1, time.time()
    while last_count < count and time.time() < at + quiet_s:
        ended = sum(number for status, number in counts(name).items() if status not in UNFINISHED)
        if ended != last_count:
            last_count, at = ended, time.time()
        time.sleep(every_s)
    return at


def done(journal: Path, inputs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Return how many of the inputs the model got once, and how many sessions got their inputs in order."""
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
