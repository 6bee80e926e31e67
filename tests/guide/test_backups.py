"""The runbook of backups, followed word by word while runs are in flight."""

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text

from api_stub.client import Client, RequestFailed
from tests.support import look
from tests.support.pages import RUNBOOKS, commands, follow
from tests.support.postgres import PostgresServer
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.store import Database
from worker.store.tables import runs

pytestmark = [pytest.mark.processes, pytest.mark.extended]
PAGE = "backup-and-restore.md"
BACK_UP, RESTORE = "back up while everything runs", "restore"
EMPTY_REDIS, UPGRADE = "Both: go on (1)", "Both: go on (2)"
STEPS = 3
SETTINGS = {"TEAM_SESSIONS_LEASE_SECONDS": "3", "TEAM_SESSIONS_HANDOVER_SECONDS": "0"}


@pytest.fixture(params=["SQLite", "Postgres"])
def places(request: pytest.FixtureRequest, new_sqlite: Callable[[], str], tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The kind of database, the URL of a migrated one, and that of a place to restore into."""
    if request.param == "SQLite":
        (tmp_path / "restored").mkdir()
        yield "SQLite", new_sqlite(), f"sqlite:///{tmp_path / 'restored/team-sessions.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    urls = server.new_database(), server.new_database()
    database = Database(urls[1])
    with database.write() as tx:
        tx.execute(text("ALTER SCHEMA team_sessions RENAME TO team_sessions_before"))
    database.close()
    yield "Postgres", *urls
    for url in urls:
        server.drop(url)


def test_every_command_of_the_page_is_followed_below() -> None:
    """A block that is added to the page is added to the test."""
    blocks = {f"{kind}: {what}" for kind in ("SQLite", "Postgres") for what in (BACK_UP, RESTORE)}

    assert set(commands(RUNBOOKS / PAGE)) == {*blocks, EMPTY_REDIS, UPGRADE}


def test_a_backup_under_load_is_restored_and_goes_on(
    places: tuple[str, str, str], tmp_path: Path, valkey: ValkeyServer
) -> None:
    """Histories are whole, what was unfinished completes, and what was accepted later is gone with its key."""
    kind, url, new_url = places
    with system(tmp_path, database_url=url, redis_url=valkey.url, settings=SETTINGS) as before:
        before.start_workers(2, concurrency=4)
        client = before.start_api()
        with load(before) as accepted:
            wait_until(lambda: look.count(before.db, "completed") > 5, description="runs have ended")
            wait_until(lambda: look.count(before.db, "running") > 3, description="runs are in flight")
            first = client.enqueue("plain", "hello", user_id="u", session_id="first", idempotency_key="first")
            waits = client.enqueue(
                "plain", "hello", user_id="u", priority="background"
            )  # nobody takes the queue `batch`
            known = [*accepted, waits["id"]]
            client.run(first["id"], wait_s=30)
            environment = before.environment | variables(url, tmp_path / "backup")
            follow(PAGE, f"{kind}: {BACK_UP}", directory=tmp_path, environment=environment)
            late = client.enqueue("plain", "hello", user_id="u", session_id="late", idempotency_key="late")
            client.run(late["id"], wait_s=30)

    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    stale(new_url)
    environment |= variables(new_url, tmp_path / "backup") | {"TEAM_SESSIONS_DATABASE_URL": new_url}
    for heading in (f"{kind}: {RESTORE}", EMPTY_REDIS, UPGRADE):
        follow(PAGE, heading, directory=tmp_path, environment=environment)

    restored = statuses(new_url)
    assert set(known) <= set(restored), "what was accepted before the backup is in it"
    assert late["id"] not in restored
    assert {"completed", "running", "queued"} <= set(restored.values()), "it was taken in the middle of everything"
    (tmp_path / "new").mkdir()
    with system(tmp_path / "new", database_url=new_url, redis_url=valkey.url, settings=SETTINGS) as after:
        after.start_worker()
        after.start_worker(queues="batch")
        client = after.start_api()
        for run_id in restored:
            assert client.run(run_id, wait_s=60)["status"] == "completed"
            look.check_whole(after.db, run_id, steps=0 if run_id in (first["id"], waits["id"]) else STEPS)
        for session_pk in {row.session_pk for row in look.rows(after.db)}:
            look.check_history(after.db, session_pk)
        with pytest.raises(RequestFailed, match="There is no run"):
            client.run(late["id"])
        again = [
            client.enqueue("plain", "hello", user_id="u", session_id=k, idempotency_key=k) for k in ("first", "late")
        ]
        ended = client.run(again[1]["id"], wait_s=60)

    assert again[0]["id"] == first["id"]
    assert again[1]["id"] != late["id"]
    assert ended["status"] == "completed"


@contextmanager
def load(running: System) -> Iterator[list[str]]:
    """Keep six sessions busy, two runs of each at a time; give the ids that were accepted so far."""
    accepted: list[str] = []
    stop = threading.Event()

    def keep_busy(session: str) -> None:
        with Client(running.url, running.key) as client:
            while not stop.is_set():
                said = f"go on [steps={STEPS}] [delay=0.2]"
                both = [client.enqueue("with-tool", said, user_id="u", session_id=session) for _ in range(2)]
                accepted.extend(run["id"] for run in both)
                client.run(both[1]["id"], wait_s=30)

    users = [threading.Thread(target=keep_busy, args=(f"s{n}",)) for n in range(6)]
    for user in users:
        user.start()
    try:
        yield accepted
    finally:
        stop.set()
        for user in users:
            user.join()


def variables(url: str, backup: Path) -> dict[str, str]:
    """Return what the page calls its placeholders."""
    return {"DATABASE": url.removeprefix("sqlite:///"), "DATABASE_URL": url, "BACKUP": str(backup)}


def stale(url: str) -> None:
    """Leave an older database where the restored one will be, and what SQLite keeps beside it."""
    if url.startswith("sqlite"):
        for end in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite:///") + end).write_text("of another time")


def statuses(url: str) -> dict[str, str]:
    """Return the status of each run, by id."""
    database = Database(url)
    with database.read() as tx:
        found = {row.id: row.status for row in tx.execute(select(runs.c.id, runs.c.status))}
    database.close()
    return found
