"""accept: how long 16 clients at once wait for "accepted", ours beside Agno's durable queue.

Ours: an API process and a worker for runs, on Postgres or SQLite, with Valkey. Agno: AgentOS with
`QueueConfig(durable=True)` as its documentation shows it, one process that serves and works, always on Postgres: that
queue knows no SQLite. On Postgres both have a database of one server. Every database keeps what it said over a power
cut. Both teams are alike, and their models answer at once.

A round: 16 threads, each with a connection that it keeps and sessions of its own, send 400 runs, two to each of 200 new
sessions: first the first ones, then the second ones. Timed is one POST, from sending it to having read its answer. The
workers execute meanwhile, as they do in production. The next round begins when all runs have ended; ours and Agno's
take turns, and the first of each warms up.

That what was accepted was also done is asked of the doors (each run completed) and read from the journals of the model
servers: each input once, and in a session the second after the answer to the first.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from urllib.parse import urlencode

from ops.bench import databases
from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress, quantile, table
from ops.bench.service import start_front
from tests.support.model import model_server
from tests.support.system import system, wait_until
from worker.queue.embedded import free_port

CLIENTS, RUNS, SESSIONS, ROUNDS = 16, 400, 200, 5
AT_MOST = 0.25
ALL_DONE_S = 120.0

Door = tuple[str, dict[str, str], bytes]  # what to POST: path, headers, body


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two, and how it is asked. `order` gives the request for (session, input)."""

    name: str
    port: int
    order: Callable[[str, str], Door]
    id_field: str
    look: Callable[[str, str], str]  # path of (run, session)
    headers: dict[str, str]
    journal: Path


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that was accepted, and how long its client waited for that."""

    run_id: str
    session: str
    input: str
    ms: float


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found. The last three count: runs that completed, inputs asked once, sessions in order."""

    ms: list[float]
    took_s: float
    completed: int
    once: int
    in_order: int

    @property
    def right(self) -> bool:
        return (self.completed, self.once, self.in_order) == (RUNS, RUNS, SESSIONS)


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database, beside Agno on Postgres."""
    for kind in kinds:
        with _sides(kind) as sides:
            rounds: dict[str, list[Round]] = {side.name: [] for side in sides}
            for n in range(ROUNDS + 1):
                for side in sides:
                    progress(f"accept {kind}: round {n} of {ROUNDS}, {side.name}")
                    rounds[side.name] += [_round(side, f"{kind}-{n}")]
        _add(report, kind, {name: found[1:] for name, found in rounds.items()})


@contextmanager
def _sides(kind: str) -> Iterator[tuple[Side, Side]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="ts-bench-")))
        postgres = stack.enter_context(databases.new_postgres())
        agnos = postgres.new_database().replace("postgresql:", "postgresql+psycopg:")
        ours = postgres.new_database() if kind == "postgres" else stack.enter_context(databases.new_database(kind))
        redis, teams = stack.enter_context(databases.new_broker()), {"TEAM_SESSIONS_TEAMS": "ops.bench.teams"}
        running = stack.enter_context(system(directory, database_url=ours, redis_url=redis, settings=teams))
        start_front(running)

        journal, port = directory / "agno-journal.jsonl", free_port()
        model = stack.enter_context(model_server("--journal", str(journal)))
        settings = {"DATABASE": agnos, "PORT": str(port), "OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
        program, log = environment.python("agno"), directory / "agno.log"
        stack.enter_context(environment.serving(program, "serve_agno.py", environment=settings, port=port, log=log))
        yield (
            _ours(int(running.url.rsplit(":", 1)[1]), running.key, running.journal_file),
            _agno(port, journal),
        )


def _ours(port: int, key: str, journal: Path) -> Side:
    headers = {"Authorization": f"Bearer {key}"}

    def order(session: str, input: str) -> Door:
        body = json.dumps({"team": "same", "input": input, "session_id": session}).encode()
        return "/v1/runs", {**headers, "Content-Type": "application/json"}, body

    return Side("ours", port, order, "id", lambda run, _session: f"/v1/runs/{run}", headers, journal)


def _agno(port: int, journal: Path) -> Side:
    def order(session: str, input: str) -> Door:
        fields = {"message": input, "session_id": session, "background": "true", "stream": "false"}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return "/teams/t/runs", form, urlencode(fields).encode()

    name = f"Agno {environment.version('agno')}"
    return Side(name, port, order, "run_id", lambda run, s: f"/teams/t/runs/{run}?session_id={s}", {}, journal)


def _round(side: Side, name: str) -> Round:
    together = Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        began = time.perf_counter()
        shares = [range(n, SESSIONS, CLIENTS) for n in range(CLIENTS)]
        sent = [pool.submit(_client, side, name, sessions=share, together=together) for share in shares]
        accepted = [one for client in sent for one in client.result()]
    ends = _ends(side, accepted)
    took_s = time.perf_counter() - began
    return Round([one.ms for one in accepted], took_s, ends.count("completed"), *_done(side, accepted))


def _client(side: Side, name: str, *, sessions: range, together: Barrier) -> list[Accepted]:
    """Send this client's runs, one after the other, over one connection."""
    found = []
    with closing(HTTPConnection("127.0.0.1", side.port, timeout=60)) as connection:
        connection.connect()
        together.wait()
        for turn in range(RUNS // SESSIONS):
            for n in sessions:
                session, input = f"{name}-{n}", f"Input {turn + 1} of session {name}-{n}."
                path, headers, body = side.order(session, input)
                began = time.perf_counter()
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                read = answer.read()
                ms = (time.perf_counter() - began) * 1000
                assert answer.status == 202, f"{side.name}: {answer.status} {read[:500]!r}"
                found.append(Accepted(json.loads(read)[side.id_field], session, input, ms))
    return found


def _ends(side: Side, accepted: list[Accepted]) -> list[str]:
    """Return the status of each run once it has ended. Asks for one run at a time, so as not to be a load itself."""
    with closing(HTTPConnection("127.0.0.1", side.port, timeout=60)) as connection:

        def end(one: Accepted) -> str | None:
            connection.request("GET", side.look(one.run_id, one.session), headers=side.headers)
            status = str(json.loads(connection.getresponse().read())["status"]).lower()
            return None if status in ("queued", "pending", "running") else status

        until_ended = partial(wait_until, description="a run has ended", timeout_s=ALL_DONE_S)
        return [str(until_ended(partial(end, one))) for one in accepted]


def _done(side: Side, accepted: list[Accepted]) -> tuple[int, int]:
    """Return how many of these inputs the model was asked once, and how many sessions had theirs in order."""
    lines = [json.loads(line) for line in side.journal.read_text().splitlines()]
    asked = Counter(line["user"] for line in lines if line["event"] == "asked")
    at = {(line["user"], line["event"]): line["at"] for line in lines}
    inputs: dict[str, list[str]] = {}
    for one in accepted:  # as their one client sent them
        inputs.setdefault(one.session, []).append(one.input)
    never = float("nan")  # compares with nothing
    ordered = [at.get((a, "answered"), never) <= at.get((b, "asked"), never) for a, b in inputs.values()]
    return sum(asked[one.input] == 1 for one in accepted), sum(ordered)


def _add(report: Report, kind: str, rounds: dict[str, list[Round]]) -> None:
    rows, p99 = [], {name: [quantile(found.ms, 0.99) for found in all_] for name, all_ in rounds.items()}
    ms = {name: [ms for found in all_ for ms in found.ms] for name, all_ in rounds.items()}
    for name, found in rounds.items():
        times = [statistics.median(ms[name]), quantile(ms[name], 0.99), min(p99[name]), max(p99[name]), max(ms[name])]
        counts = [
            sum(one.completed for one in found),
            sum(one.once for one in found),
            sum(one.in_order for one in found),
        ]
        speed = RUNS / statistics.median(one.took_s for one in found)
        rows.append([name, len(ms[name]), *(f"{time:.1f}" for time in times), f"{speed:.0f}", *counts])
    columns = ["side", "runs", "p50 ms", "p99", "lowest p99 of a round", "highest", "max", "runs/s to the end"]
    columns += ["completed", "asked once", "sessions in order"]
    title = f"accept, ours on {kind}: from sending a POST to having read that it is accepted, {CLIENTS} clients"
    report.tables.append(table(title, columns, rows))

    ours, theirs = rounds
    ratio = quantile(ms[ours], 0.99) / quantile(ms[theirs], 0.99)
    each = [a / b for a, b in zip(p99[ours], p99[theirs], strict=True)]
    found_ratio = f"{ratio:.3f} (rounds: {min(each):.3f} to {max(each):.3f})"
    promise = f"accept {kind}: p99 is at most {AT_MOST} times that of {theirs}"
    report.checks.append(Check(promise, found_ratio, ratio <= AT_MOST))
    right = sum(one.right for one in rounds[ours])
    promise = f"accept {kind}: all {RUNS} runs were executed once, those of a session in order"
    report.checks.append(Check(promise, f"in {right} of {ROUNDS} rounds", right == ROUNDS))
    report.raw[kind] = {name: [asdict(one) for one in found] for name, found in rounds.items()}
