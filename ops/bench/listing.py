"""list: how long a page of 20 sessions of a user with 10,000 takes over HTTP, beside AgentOS.

Each side is sent one run, which it executes; the other sessions are copies of that session and that run in its own
tables, with ids and times of their own (ops/bench/fill.py; at Agno's by INSERT … SELECT). Both databases are analysed.
Then a client asks for the first page, 20 sessions, 200 times of each in turn, over a connection that it keeps: from
sending the request to having read the answer. A page is right if it holds 20 sessions, the newest first. Ours on
either database, Agno's on Postgres.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

from sqlalchemy import bindparam, create_engine, update
from sqlalchemy import text as sql

from ops.bench import fill
from ops.bench.beside import Side, sides, until_ended
from ops.bench.report import Check, Ratio, Report, progress, quantile, table
from tests.support import look
from worker.store import Database
from worker.store.tables import sessions

SESSIONS, PAGE, USER = 10_000, 20, "u"
TIMED, WARM_UP = 200, 20
AT_MOST = 0.25


@dataclass(frozen=True, slots=True)
class List:
    """How a side is asked for its first page, and where the answer holds ids and times."""

    path: str
    id_field: str
    time_field: str


OURS = List(f"/v1/sessions?user_id={USER}&limit={PAGE}", "id", "updated_at")
AGNOS = List(f"/sessions?user_id={USER}&type=team&limit={PAGE}&page=1", "session_id", "created_at")


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database, beside Agno on Postgres."""
    for kind in kinds:
        with sides(kind) as (product, agno), ExitStack() as stack:
            lists = {product.name: (product, OURS), agno.name: (agno, AGNOS)}
            for side, copy in ((product, _fill_ours), (agno, _fill_agno)):
                progress(f"list {kind}: {SESSIONS} sessions, {side.name}")
                _send(side)
                copy(side)
            lines = {
                side.name: stack.enter_context(closing(HTTPConnection("127.0.0.1", side.port, timeout=60)))
                for side in (product, agno)
            }
            times: dict[str, list[float]] = {name: [] for name in lists}
            right = dict.fromkeys(lists, 0)
            for n in range(WARM_UP + TIMED):
                progress(f"list {kind}: page {n + 1} of {WARM_UP + TIMED}")
                for name, (side, page) in lists.items():
                    ms, good = _ask(lines[name], side, page)
                    if n >= WARM_UP:
                        times[name].append(ms)
                        right[name] += good
        _add(report, kind, times, right)


def _send(side: Side) -> None:
    path, headers, body = side.order("list-0", "Hello.")
    if side.name == "Team Sessions":
        body = json.dumps({**json.loads(body), "user_id": USER}).encode()
    else:
        body += f"&user_id={USER}".encode()
    with closing(HTTPConnection("127.0.0.1", side.port, timeout=60)) as connection:
        connection.request("POST", path, body, headers)
        assert connection.getresponse().status == 202
    until_ended(side.counts, "list", 1)


def _fill_ours(side: Side) -> None:
    db = Database(side.database)
    like = look.only_run(db)
    assert like is not None
    pks = fill.fill_sessions(db, like=like, prefix="copy", count=SESSIONS - 1)
    before = look.row(db, like).created_at
    times = [{"of": pk, "at": before - timedelta(seconds=n)} for n, pk in enumerate(pks, 1)]
    with db.write() as tx:
        tx.execute(update(sessions).where(sessions.c.pk == bindparam("of")).values(updated_at=bindparam("at")), times)
    _analyse(db.engine.connect)
    db.close()


def _fill_agno(side: Side) -> None:
    engine = create_engine(side.database)
    own = {"session_id": "'copy-' || n", "run_id": "run_id || '-' || n", "created_at": "created_at - n"}
    with engine.begin() as connection:
        for name in "agno_sessions", "agno_runs":
            query = sql("SELECT column_name FROM information_schema.columns WHERE table_name = :name")
            columns = connection.execute(query, {"name": name}).scalars().all()
            values = ", ".join(own.get(column, f'"{column}"') for column in columns)
            names = ", ".join(f'"{column}"' for column in columns)
            rows = f"FROM ai.{name}, generate_series(1, {SESSIONS - 1}) n"
            connection.execute(sql(f"INSERT INTO ai.{name} ({names}) SELECT {values} {rows}"))
    _analyse(engine.connect)
    engine.dispose()


def _analyse(connect: Callable[[], Any]) -> None:
    with connect() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(
            sql("ANALYZE" if is_sqlite else "VACUUM ANALYZE")
        )


def _ask(connection: HTTPConnection, side: Side, page: List) -> tuple[float, bool]:
    """Return the milliseconds that a page took, and whether it is right."""
    began = time.perf_counter()
    connection.request("GET", page.path, headers=side.headers)
    answer = connection.getresponse()
    read = answer.read()
    ms = (time.perf_counter() - began) * 1000
    assert answer.status == 200, f"{side.name}: {answer.status} {read[:500]!r}"
    rows = json.loads(read)["data"]
    times = [row[page.time_field] for row in rows]
    newest_first = all(a > b for a, b in itertools.pairwise(times))
    return ms, newest_first and len({row[page.id_field] for row in rows}) == PAGE


def _add(report: Report, kind: str, times: dict[str, list[float]], right: dict[str, int]) -> None:
    rows = []
    for name, ms in times.items():
        figures = [f"{figure:.1f}" for figure in (statistics.median(ms), quantile(ms, 0.95), max(ms))]
        rows.append([name, len(ms), *figures, right[name]])
    columns = ["side", "pages", "p50 ms", "p95", "max", "right"]
    title = f"list, ours on {kind}: the first {PAGE} of {SESSIONS:,} sessions of a user"
    report.tables.append(table(title, columns, rows))
    product, peer = times
    both = [statistics.median(ms) for ms in times.values()]
    wrong = f"{right[peer]} of {TIMED} pages right" * (right[peer] != TIMED)
    report.compare(Ratio(f"list {kind}: p50 of a page", "ms", both[0], peer, both[1], wrong), at_most=AT_MOST)
    promise = f"list {kind}: each of our pages holds {PAGE} sessions, the newest first"
    report.checks.append(Check(promise, f"{right[product]} of {TIMED}", right[product] == TIMED))
    report.raw[kind] = times
