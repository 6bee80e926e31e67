"""Schema changes while processes of two versions use the database."""

import os
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import text

from tests.support.postgres import PostgresServer
from tests.support.system import wait_until
from tests.support.versions import next_version
from worker.store import Database, Transaction, migrate
from worker.store.tables import SCHEMA

IN_BETWEEN = '''"""Adds something, after a revision that removes."""
revision = "next_4"
down_revision = "next_3"

def upgrade():
    pass
'''


@pytest.mark.default_on("postgres")
def test_each_version_says_which_database_it_cannot_work_with(empty_url: str, tmp_path: Path) -> None:
    """What a newer version adds is ignored; a missing column is named, with what to do."""
    new, newest = next_version(tmp_path), migrate.missing(None)[-1].revision
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": empty_url, "TEAM_SESSIONS_REDIS_URL": "redis://none"}
    db = Database(empty_url)
    empty = migrate.misfit(db)
    migrate.upgrade(db)

    early = new.command("worker", environment=environment)
    output = new.migrate(environment=environment)
    between = migrate.misfit(db)
    migrate.upgrade(db)  # by the older version: it leaves the newer schema as it is
    at = revision(db)
    new.migrate("--removing", environment=environment)
    late = migrate.misfit(db)
    db.close()

    assert empty == f"it is empty and needs {newest!r}. Run 'team-sessions db upgrade' first."
    assert early.returncode == 2
    assert f"it is at revision {newest!r} and needs 'next_2'. Run 'team-sessions db upgrade' first." in early.stderr
    assert "Left for --removing, when no process of an older version is left: next_3." in output
    assert (between, at) == (None, "next_2")
    assert late == "a newer version has removed runs.team_version (revision 'next_3'). Install that version again."


@pytest.mark.default_on("postgres")
def test_nothing_is_removed_before_a_later_revision_that_adds(empty_url: str, tmp_path: Path) -> None:
    """A skipped version left something to remove: it is removed only with --removing."""
    new = next_version(tmp_path)
    (new.path / "worker/store/migrations/versions/next_4_more.py").write_text(IN_BETWEEN)
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": empty_url, "TEAM_SESSIONS_REDIS_URL": "redis://none"}
    db = Database(empty_url)
    migrate.upgrade(db)

    new.migrate(environment=environment)
    stopped_at = revision(db)
    refused = new.command("worker", environment=environment)
    new.migrate("--removing", environment=environment)
    at = revision(db)
    db.close()

    assert (stopped_at, at) == ("next_2", "next_4")
    assert "'next_3' has to be applied before: see 'team-sessions db upgrade --help'." in refused.stderr


def test_a_migration_that_gets_no_lock_steps_back_and_tries_again(postgres: PostgresServer, tmp_path: Path) -> None:
    """Everyone else queues behind a migration that waits for a lock: it waits for a second only.

    The transaction that has the lock looks for it itself: the server ends one that is idle for 10 seconds.
    """
    url, new = postgres.new_database(empty=True), next_version(tmp_path)
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": url, "TEAM_SESSIONS_REDIS_URL": "redis://none"}
    db, other = Database(url), Database(url)
    migrate.upgrade(db)
    migrating = Thread(target=new.migrate, kwargs={"environment": environment})

    with other.write() as tx:
        tx.execute(text(f"LOCK TABLE {SCHEMA}.runs IN ACCESS SHARE MODE"))
        migrating.start()
        for waits in (True, False, True):
            wait_until(lambda waits=waits: _waits(tx) is waits, description=f"it waits for the lock: {waits}")
    migrating.join()
    at = revision(db)
    db.close()
    other.close()
    postgres.drop(url)

    assert at == "next_2"


def revision(db: Database) -> str | None:
    """Return the revision that a database is at."""
    with db.read() as tx:
        return migrate.current_revision(tx)


def _waits(tx: Transaction) -> bool:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    return int(tx.execute(text(waiting)).scalar_one()) > 0
