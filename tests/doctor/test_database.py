"""`team-sessions doctor` names what is wrong with a database, with who works on it, and with what waits in it."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text, update

from tests.doctor.house import House, like_any_user, with_no_room
from tests.support.postgres import PostgresServer
from tests.support.system import wait_until
from worker.clock import now
from worker.domain import Origin, RunOrder
from worker.store import Database, Transaction, runs, sessions, tables, teams

# The database that is asked about is another than that of the workers beside it.
pytestmark = [pytest.mark.extended, pytest.mark.parametrize("installed", ["sqlite"], indirect=True)]
PASSWORD = "hunter2"  # the house looks for it in whatever the doctor says


def execute(url: str, *statements: str) -> None:
    """Execute statements on a Postgres, each by itself."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated Postgres database."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A Postgres server of this test's."""
    server = PostgresServer()
    yield server
    server.close()


def hba_file(url: str) -> str:
    """Return where a Postgres keeps the rules of who may connect."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        path = str(connection.execute(text("SHOW hba_file")).scalar_one())
    engine.dispose()
    return path


def add_run(tx: Transaction, run_id: str, *, team: str, accepted_s: float, **values: Any) -> int:
    """Have a run in a session of its own, accepted so many seconds ago; return the key of the session."""
    place = sessions.append_run(tx, user_id="u", session_id=run_id, team=team, run_id=run_id)
    runs.add(tx, RunOrder(team, "hello", session_id=run_id, user_id="u"), place, run_id=run_id, origin=Origin())
    changed = {"created_at": now() - timedelta(seconds=accepted_s), **values}
    tx.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(**changed))
    return place.session_pk


def announce(tx: Transaction, name: str, *, team: str, queues: list[str]) -> None:
    """Have a worker that is live for as long as the test takes."""
    worker = f"here:7:{name}"
    teams.announce(tx, worker=worker, versions={team: "1"}, queues=queues)
    tx.execute(update(tables.teams).where(tables.teams.c.worker == worker).values(seen_at=now() + timedelta(hours=1)))


@contextmanager
def role(url: str, *, options: str = "") -> Iterator[str]:
    """Make a user of a Postgres that may log in; yield the address with that user and a password."""
    execute(url, f"CREATE ROLE ada LOGIN PASSWORD '{PASSWORD}' {options}")
    try:
        yield url.replace("postgres@", f"ada:{PASSWORD}@")
    finally:
        execute(url, "DROP OWNED BY ada", "DROP ROLE ada")


def test_a_database_that_is_not_migrated(installed: House, empty_url: str) -> None:
    """The command that mends it is told; nothing that needs the tables is asked."""
    db = Database(empty_url)
    with db.write() as tx:
        tx.execute(text("CREATE TABLE other (x int)"))  # so that SQLite has a file
    db.close()

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=empty_url)

    assert (found.code, found.ill) == (1, {"database_schema": "failed"})
    assert found.told("database_schema")[1] == "Run 'team-sessions db upgrade' first."


def test_a_database_of_an_unreleased_version(installed: House, database_url: str) -> None:
    """It says where the database is, and what to do."""
    db = Database(database_url)
    with db.write() as tx:
        version = "schema_version" if db.is_sqlite else "team_sessions.schema_version"
        tx.execute(text(f"UPDATE {version} SET version_num = '0005'"))
    db.close()

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=database_url)

    assert (found.code, found.ill) == (1, {"database_schema": "failed"})
    assert "it is at revision '0005' of an unreleased version" in found.told("database_schema")[0]


def test_an_sqlite_file_that_is_not_there(installed: House, tmp_path: Path) -> None:
    """To look for it does not make it."""
    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}")

    assert (found.code, found.ill, list(tmp_path.iterdir())) == (1, {"database_missing": "failed"}, [])


def test_an_sqlite_file_that_is_something_else(installed: House, tmp_path: Path) -> None:
    """A file of another program."""
    (tmp_path / "letter.txt").write_text("Dear Ada, " * 1000)

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=f"sqlite:///{tmp_path / 'letter.txt'}")

    assert (found.code, found.ill) == (1, {"database_damaged": "failed"})


def test_an_sqlite_file_that_cannot_be_written(installed: House, new_sqlite: Callable[[], str]) -> None:
    """By the user whom the doctor runs as."""
    url = new_sqlite()
    file = Path(url.removeprefix("sqlite:///"))
    file.chmod(0o400)
    file.parent.chmod(0o500)

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url, bounds=like_any_user)

    file.parent.chmod(0o700)
    assert (found.code, found.ill) == (1, {"database_read_only": "failed"})


def test_an_sqlite_file_that_cannot_grow(installed: House, new_sqlite: Callable[[], str]) -> None:
    """As on a full disk: it can be read, and takes nothing."""
    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=new_sqlite(), bounds=with_no_room)

    assert (found.code, found.ill) == (1, {"database_no_space": "failed"})


def test_an_sqlite_file_whose_lock_is_held(installed: House, new_sqlite: Callable[[], str]) -> None:
    """By a process that stands still in the middle of a write. What only reads is looked at meanwhile."""
    url = new_sqlite()
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    found = installed.ask("--within", "10", TEAM_SESSIONS_DATABASE_URL=url)

    holder.close()
    silent = {line["check"] for line in found.lines if line["code"] == "no_answer"}
    assert (found.code, silent) == (1, {"writing"})
    assert found.ill["workers_missing"] == "failed"


def test_a_postgres_that_is_stopped(installed: House, own_server: PostgresServer) -> None:
    """Nobody listens there any more."""
    url = own_server.new_database()
    own_server.stop()

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url)

    own_server.start()
    assert (found.code, found.ill) == (1, {"database_refused": "failed"})


def test_a_postgres_that_stands_still(installed: House, own_server: PostgresServer) -> None:
    """Connections are taken, and never answered."""
    url = own_server.new_database()
    pid = own_server.pid
    os.kill(pid, signal.SIGSTOP)

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url)

    os.kill(pid, signal.SIGCONT)
    assert (found.code, found.ill) == (1, {"database_timeout": "failed"})


def test_a_postgres_that_refuses_our_password(installed: House, own_server: PostgresServer) -> None:
    """The password is not repeated."""
    url = own_server.new_database()
    execute(url, f"CREATE ROLE ada LOGIN PASSWORD 'not {PASSWORD}'", "SELECT pg_reload_conf()")
    rules = Path(hba_file(url))
    rules.write_text(f"local all ada scram-sha-256\n{rules.read_text()}")
    execute(url, "SELECT pg_reload_conf()")

    def refused() -> Any:
        found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url.replace("postgres@", f"ada:{PASSWORD}@"))
        return "database_password" in found.ill and found

    found = wait_until(refused, description="the rule is read")

    assert (found.code, found.ill) == (1, {"database_password": "failed"})


def test_a_postgres_database_that_there_is_none_of(installed: House, postgres: PostgresServer) -> None:
    """The server is there, the database not."""
    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=postgres.url("nowhere"))

    assert (found.code, found.ill) == (1, {"database_no_database": "failed"})


def test_a_postgres_without_a_free_connection(installed: House, postgres_url: str) -> None:
    """Of those that our user may have."""
    with role(postgres_url, options="CONNECTION LIMIT 0") as url:
        found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url)

    assert (found.code, found.ill) == (1, {"database_no_connections": "failed"})


def test_a_postgres_that_our_user_may_not_write(installed: House, postgres_url: str) -> None:
    """It may read, as after a migration by somebody else."""
    with role(postgres_url) as url:
        execute(
            postgres_url,
            "GRANT USAGE ON SCHEMA team_sessions TO ada",
            "GRANT SELECT ON ALL TABLES IN SCHEMA team_sessions TO ada",
        )
        found = installed.ask(TEAM_SESSIONS_DATABASE_URL=url)

    assert found.ill["database_forbidden"] == "failed"


def test_a_postgres_that_is_read_only(installed: House, postgres_url: str) -> None:
    """As a standby is."""
    name = postgres_url.split("@/")[1].split("?")[0]
    execute(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=postgres_url)

    assert (found.code, found.ill) == (1, {"database_read_only": "failed"})


@pytest.mark.parametrize(("offset", "level"), [("10 s", "warning"), ("-1 hour", "failed")])
def test_a_postgres_whose_clock_is_wrong(installed: House, postgres_url: str, offset: str, level: str) -> None:
    """Its own clock_timestamp() is off, for whoever connects."""
    name = postgres_url.split("@/")[1].split("?")[0]
    execute(
        postgres_url,
        "CREATE SCHEMA skewed",
        f"""CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
            AS $$ SELECT pg_catalog.clock_timestamp() + interval '{offset}' $$""",
        f"ALTER DATABASE {name} SET search_path = skewed, pg_catalog",
    )

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=postgres_url)

    assert found.ill["clock_skew"] == level
    detail, advice = found.told("clock_skew")
    assert ("ahead of" if level == "warning" else "behind") in detail
    assert "time server" in advice


def test_an_address_with_a_driver_that_there_is_none_of(installed: House) -> None:
    """And one with an option of another driver."""
    driver = installed.ask(TEAM_SESSIONS_DATABASE_URL=f"postgresql+nothing://ada:{PASSWORD}@127.0.0.1/x")
    option = installed.ask(TEAM_SESSIONS_DATABASE_URL=f"postgresql://ada:{PASSWORD}@127.0.0.1/x?pool=5")

    for found, reason in ((driver, "its driver is not used here"), (option, "its option 'pool' is not supported")):
        assert (found.code, found.ill) == (1, {"setting_invalid": "failed"})
        assert reason in found.told("setting_invalid")[0]


def test_a_database_that_no_worker_works_on(installed: House, database_url: str) -> None:
    """It is well, and nobody is there."""
    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=database_url)

    assert (found.code, found.ill) == (1, {"workers_missing": "failed"})


def test_queues_that_nobody_consumes(installed: House, db: Database, database_url: str) -> None:
    """Those of runs are a failure, those that nobody waits for a warning."""
    with db.write() as tx:
        announce(tx, "a", team="plain", queues=["summaries", "resumed"])

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=database_url, unset=("TEAM_SESSIONS_TEAMS",))

    queues = [(line["level"], line["detail"]) for line in found.lines if line["code"] == "queue_not_consumed"]
    assert queues == [
        ("failed", "No live worker consumes the queue 'runs'."),
        ("warning", "No live worker consumes the queues 'enqueue', 'batch'."),
    ]


def test_runs_that_wait(installed: House, db: Database, database_url: str) -> None:
    """For a team that nobody serves; for a worker, longer than a minute; and one whose worker is gone."""
    with db.write() as tx:
        for team in ("plain", "gone", "lost"):
            announce(tx, team, team=team, queues=["runs", "resumed"])
        add_run(tx, "run_of_plain", team="plain", accepted_s=300)
        pk = add_run(tx, "run_of_gone", team="gone", accepted_s=1)
        add_run(tx, "run_behind_it", team="gone", accepted_s=1, session_pk=pk, position=2)
        add_run(
            tx, "run_of_lost", team="lost", accepted_s=1, status="running", lease_until=now() - timedelta(minutes=1)
        )
        teams.leave(tx, worker="here:7:gone")

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=database_url)

    assert found.told("runs_of_unserved_team")[0] == "2 runs wait for team 'gone', which no live worker serves."
    assert found.told("runs_of_unserved_team")[1].endswith("team-sessions runs cancel --team gone")
    assert found.told("runs_unattended")[0].startswith("1 run waits for a worker that is gone")
    detail, advice = found.told("run_waits_long")
    assert detail.startswith("Run 'run_of_plain' has been ready for 0:0")
    assert advice.startswith("team-sessions why run_of_plain.")


def test_summaries_that_failed(installed: House, db: Database, database_url: str) -> None:
    """Counted by what they failed with."""
    with db.write() as tx:
        for number in range(3):
            pk = add_run(tx, f"run_{number}", team="plain", accepted_s=0, status="completed")
            job = {"session_pk": pk, "through_seq": 1, "fence": 1, "failures": 3, "requested_at": now()}
            tx.execute(tables.summary_jobs.insert().values(error_code="model_refused", **job))

    found = installed.ask(TEAM_SESSIONS_DATABASE_URL=database_url)

    assert found.ill["summaries_failed"] == "warning"
    assert found.told("summaries_failed")[0].startswith("3 could not be refreshed (model_refused)")
