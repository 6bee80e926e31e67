"""size: what one process takes, and what one run leaves behind; the figures of ops/handbook/sizing.md.

Postgres. *Short*: 600 runs that a model answers at once, by 16 clients; the processor time of one worker and one API
process. *Waiting*: 200 runs at once in one worker, each with a model that is silent for 15 s. *Streaming*: 200 at
once, each 100 words, ten a second. *Rows*: 10,000 sessions of 1,000 users, 20 runs and 40 messages of 500 characters
each, written one run of every session at a time, as they come in life: that decides how full the pages of an index are.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import ColumnElement, FromClause, Table, Text, cast, func, insert, literal, select, text, true

from api_stub.client import Client
from ops.bench.processes import cpu_s, memory
from ops.bench.report import Report, progress, table
from ops.bench.service import service, start_front
from tests.support import look
from tests.support.system import System, wait_until
from worker.store import Database, Transaction
from worker.store.tables import messages, runs, sessions

SESSIONS, EACH, USERS, CHARACTERS = 10_000, 20, 1_000, 500
SHORT, CLIENTS = 600, 16
AT_ONCE, SILENT_S = 200, 15
STATISTICS_S = 12  # a connection that does nothing more tells the server what it counted within ten


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with service("postgres", TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
        before = _connections(running.db)
        client = start_front(running, concurrency=AT_ONCE)
        run = client.wait(client.enqueue("plain", "Hello.")["id"], timeout_s=20)
        rows = [["at rest", *_process(running), _connections(running.db) - before, "", ""]]
        written = _written(running.db)
        rows.append(_short(running, client, before))
        time.sleep(STATISTICS_S)
        each = [(now - then) / SHORT for now, then in zip(_written(running.db), written, strict=True)]
        waiting = [f"Hello. [delay={SILENT_S}]"] * AT_ONCE
        rows.append(_at_once(running, client, before, f"{AT_ONCE} wait for a model", waiting))
        rows.append(_at_once(running, client, before, f"{AT_ONCE} stream", ["Hello. [words=100][pace=0.1]"] * AT_ONCE))
        columns = [
            "one worker process",
            "MB",
            "threads",
            "connections, all",
            "ms of CPU a run, worker",
            "KB a run, Redis",
        ]
        report.tables.append(table("size: processes (connections: with those of one API)", columns, rows))
        cells = [[f"{each[0] / 1024:.1f}", *(f"{count:.1f}" for count in each[1:])]]
        columns = ["KB of WAL", "rows written", "rows updated", "of these in place (HOT)"]
        report.tables.append(
            table("size: what a short run writes, heartbeats of the idle worker included", columns, cells)
        )
        _fill(running.db, like=run["id"])
        report.tables.append(_sizes(running.db))


def _short(running: System, client: Client, before: int) -> list[object]:
    worker, api = running.workers[0].pid, running.api.pid
    began, used, stored = time.perf_counter(), (cpu_s(worker), cpu_s(api)), _redis(running)

    def execute(n: int) -> None:
        client.wait(client.enqueue("plain", f"Hello, {n}.")["id"], timeout_s=60)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(execute, range(SHORT)))
    took = time.perf_counter() - began
    each = [1000 * (now - then) / SHORT for now, then in zip((cpu_s(worker), cpu_s(api)), used, strict=True)]
    what = f"{SHORT / took:.0f} runs/s, {CLIENTS} clients; API {each[1]:.1f} ms a run"
    memory_each = (_redis(running) - stored) / SHORT / 1024
    return [what, *_process(running), _connections(running.db) - before, f"{each[0]:.1f}", f"{memory_each:.1f}"]


def _at_once(running: System, client: Client, before: int, what: str, inputs: list[str]) -> list[object]:
    worker = running.workers[0].pid
    used, stored = cpu_s(worker), _redis(running)
    with ThreadPoolExecutor(CLIENTS) as pool:
        ids = [run["id"] for run in pool.map(lambda text: client.enqueue("plain", text), inputs)]
    wait_until(lambda: look.count(running.db, "running") == len(ids), description="all are under way", timeout_s=60)
    time.sleep(2)
    figures = [*_process(running), _connections(running.db) - before]
    wait_until(lambda: look.count(running.db, "running") == 0, description="all have ended", timeout_s=120)
    cpu, left = 1000 * (cpu_s(worker) - used) / len(ids), (_redis(running) - stored) / len(ids) / 1024
    return [what, *figures, f"{cpu:.1f}", f"{left:.1f}"]


def _process(running: System) -> list[object]:
    pid = running.workers[0].pid
    held = memory(pid)
    assert held is not None
    return [f"{held.pss:.0f}", len(list(Path(f"/proc/{pid}/task").iterdir()))]


def _redis(running: System) -> int:
    with Redis.from_url(running.environment["TEAM_SESSIONS_REDIS_URL"]) as redis:
        return int(redis.info("memory")["used_memory_dataset"])


def _connections(db: Database) -> int:
    with db.read() as tx:
        return int(
            tx.execute(text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")).scalar_one()
        )


def _written(db: Database) -> list[float]:
    """Return the bytes of WAL, and the rows written, updated, and updated in place, up to now."""
    of_rows = "coalesce(sum(n_tup_ins), 0), coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_hot_upd), 0)"
    with db.read() as tx:
        answer = tx.execute(
            text(f"SELECT pg_current_wal_insert_lsn() - '0/0', {of_rows} FROM pg_stat_user_tables")
        ).one()
    return [float(count) for count in answer]


def _fill(db: Database, *, like: str) -> None:
    """Write the sessions, then, EACH times, a run and its messages for each of them: copies of an executed run."""
    words = func.substr(func.repeat(func.md5(cast(func.random(), Text)), CHARACTERS // 32 + 1), 1, CHARACTERS)
    made = func.generate_series(1, SESSIONS).table_valued("n").render_derived()
    pk, user = made.c.n + 10**6, func.concat("user-", made.c.n % USERS)
    with db.write() as tx:
        id = func.concat("s-", made.c.n)
        original = select(runs.c.session_pk).where(runs.c.id == like).scalar_subquery()
        _copy(tx, sessions, made, sessions.c.pk == original, {"pk": pk, "user_id": user, "session_id": id})
    for position in range(1, EACH + 1):
        progress(f"size: {position * SESSIONS} of {SESSIONS * EACH} runs")
        # These ids sort after those of the executed runs, as ids of newer runs do.
        id = func.concat("run_f", func.lpad(func.to_hex(made.c.n + position * SESSIONS), 31, "0"))
        ids = {"session_pk": pk, "user_id": user, "id": id, "run_id": id}
        with db.write() as tx:
            texts = {"position": literal(position), "input": words, "output": words}
            _copy(tx, runs, made, runs.c.id == like, {**ids, **texts})
            for seq in (1, 2):
                is_message = (messages.c.run_id == like) & (messages.c.seq == seq)
                _copy(tx, messages, made, is_message, {**ids, "seq": literal(2 * position - 2 + seq), "content": words})


def _copy(
    tx: Transaction, source: Table, made: FromClause, condition: ColumnElement[bool], new: dict[str, Any]
) -> None:
    """Write a row for each that is *made*, like the one that meets the condition but for the *new* values."""
    columns = [new.get(column.name, column) for column in source.c]
    rows = select(*columns).select_from(source.join(made, true())).where(condition)
    tx.execute(insert(source).from_select(list(source.c), rows))


def _sizes(db: Database) -> str:
    rows = []
    with db.read() as tx:
        tx.execute(text("ANALYZE"))
        for source in (sessions, runs, messages):
            count = tx.execute(select(func.count()).select_from(source)).scalar_one()
            name = f"team_sessions.{source.name}"
            size, indexes = tx.execute(select(func.pg_table_size(name), func.pg_indexes_size(name))).one()
            each = [f"{size / count:.0f}", f"{indexes / count:.0f}"]
            rows.append([source.name, count, *each, f"{(size + indexes) / 2**20:.0f}"])
    columns = ["table", "rows", "bytes a row", "of indexes a row", "MB in all"]
    return table(f"size: rows, {CHARACTERS} characters a message, {EACH} runs a session", columns, rows)
