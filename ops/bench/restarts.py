"""restarts: a hundred restarts of Postgres under load, with two workers. None of them may be taken for dead.

A restart releases all liveness locks, and all processes connect again at the same time. Each restart is a crash
(`pg_ctl stop -m immediate`), about three seconds after the one before. Thirty runs are under way at each moment. A
wrong verdict would show as a second attempt.
"""

import time
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from ops.bench import databases
from ops.bench.report import Check, Report, progress, table
from tests.support import look
from tests.support.postgres import PostgresServer
from tests.support.system import system, wait_until
from worker.errors import DatabaseUnavailable

INPUT, AT_ONCE, TIMES, EVERY_S = "[steps=9] [delay=2]", 30, 100, 3.0


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="ts-bench-")))
        server = stack.enter_context(closing(PostgresServer(durable=True)))
        broker = stack.enter_context(databases.new_broker())
        settings = {"TEAM_SESSIONS_TEAMS": "tests.support.teams"}
        running = stack.enter_context(
            system(directory, database_url=server.new_database(), redis_url=broker, settings=settings)
        )
        running.start_workers(2)
        client = running.start_api()
        run_ids: list[str] = []
        for n in range(TIMES):
            progress(f"restarts: {n + 1} of {TIMES}")
            begun_at = time.monotonic()
            open_runs = look.count(running.db, "running") + look.count(running.db, "queued")
            for m in range(max(0, AT_ONCE - open_runs)):
                text = f"{n}.{m} {INPUT}"
                run_ids.append(client.enqueue("with-tool", text, session_id=f"s{n}.{m}", user_id="u")["id"])
            server.stop(mode="immediate")
            server.start()
            wait_until(lambda: _answers(running), description="the database answers")
            time.sleep(max(0.0, begun_at + EVERY_S - time.monotonic()))
        ended = [client.run(run_id, wait_s=120) for run_id in run_ids]
        rows = [look.row(running.db, run_id) for run_id in run_ids]
    again, lost = sum(row.attempt > 1 for row in rows), sum(row.losses for row in rows)
    failed = sum(run["status"] != "completed" for run in ended)
    columns = ["restarts", "runs", "failed", "attempts > 1", "counted losses"]
    report.tables.append(table("restarts: of Postgres, under load", columns, [[TIMES, len(rows), failed, again, lost]]))
    text = f"{failed} of {len(rows)} failed, {lost} losses"
    report.checks.append(
        Check(f"restarts: {TIMES} restarts end no run, and no worker is taken for dead", text, not failed and not lost)
    )
    report.raw["restarts"] = {"runs": len(rows), "failed": failed, "again": again, "lost": lost}


def _answers(running: object) -> bool:
    try:
        look.count(running.db, "running")  # type: ignore[attr-defined]
    except DatabaseUnavailable:
        return False
    return True
