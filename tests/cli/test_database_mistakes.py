"""A database that a command cannot use: it says which mistake that is, in the words of `doctor`."""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM
from worker.cli.main import cli
from worker.errors import DatabaseUnusable, SettingsInvalid
from worker.queue.embedded import free_port
from worker.store import Database, database_probe, migrate

SECRET = "hunter2"
COMMANDS = {
    "keys": ("keys", "list"),
    "upgrade": ("db", "upgrade"),
    "retention": ("db", "retention"),
    "worker": ("worker",),
    "up": ("up", "--port", str(free_port()), "--flower-port", str(free_port())),
}
IN_PROCESS = ("keys", "upgrade", "retention")  # the others change how the process logs
NO_SERVER = f"postgresql://ada:{SECRET}@127.0.0.1:{{port}}/db"


@pytest.fixture
def mistake(tmp_path: Path) -> Callable[..., str]:
    """Run a command with a database address; return the sentence with which it ends."""

    def run(url: str, command: str = "keys") -> str:
        environment = {"TEAM_SESSIONS_DATABASE_URL": url, "TEAM_SESSIONS_DATA_DIR": str(tmp_path / "data")}
        environment["TEAM_SESSIONS_REDIS_URL"] = "redis://127.0.0.1:1/0"
        if command in IN_PROCESS:
            done = CliRunner().invoke(cli, COMMANDS[command], env=environment)
            assert isinstance(done.exception, DatabaseUnusable), (done.output, done.exception)
            message = done.exception.message
        else:
            program = subprocess.run(
                [*PROGRAM, *COMMANDS[command]],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert program.returncode == 2
            message = program.stderr.removeprefix("Error: ")
        assert SECRET not in message
        assert "Idempotency-Key" not in message
        assert "Traceback" not in message
        return message

    return run


@pytest.fixture
def server_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of a Postgres."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_that_no_server_listens(mistake: Callable[..., str], command: str) -> None:
    """And what to do about it."""
    message = mistake(NO_SERVER.format(port=free_port()), command)

    assert message.startswith("The database cannot be used. No server listens at its address. Start the server, or ")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"postgresql://ada:{SECRET}@no-such-host.invalid/db", "The host of its address cannot be resolved."),
        ("sqlite:///:memory:", "It is an SQLite database in the memory of each process: nothing is kept or shared."),
        ("sqlite:///{directory}/letter.txt", "Its file is damaged, or is no SQLite database."),
        ("sqlite:///{directory}/letters", "Its file cannot be opened."),
        ("sqlite:///{directory}/letter.txt/below.db", "Its file cannot be opened."),
    ],
)
def test_an_address_that_is_wrong(mistake: Callable[..., str], tmp_path: Path, url: str, sentence: str) -> None:
    """On SQLite and on Postgres."""
    (tmp_path / "letter.txt").write_text("Dear Ada, " * 1000)
    (tmp_path / "letters").mkdir()

    assert sentence in mistake(url.format(directory=tmp_path))


@pytest.mark.parametrize("command", IN_PROCESS)
@pytest.mark.parametrize(
    ("name", "url", "sentence"),
    [
        (
            "TEAM_SESSIONS_DATABASE_URL",
            f"postgresql+asyncpg://ada:{SECRET}@127.0.0.1/db",
            "its driver is not used here",
        ),
        ("DATABASE_URL", f"postgresql://ada:{SECRET}@127.0.0.1/db?schema=x", "its option 'schema' is not supported"),
        ("TEAM_SESSIONS_REDIS_URL", f"redis://:{SECRET}/@h", "it cannot be split at '@', '/', '?' and '#'."),
        ("REDIS_URL", f"sentinel://:{SECRET}@h:26379", "Sentinel is not supported"),
    ],
)
def test_an_address_that_no_command_takes(command: str, name: str, url: str, sentence: str) -> None:
    """The variable is named, and what to write; nothing is connected."""
    done = CliRunner().invoke(cli, COMMANDS[command], env={name: url})

    assert isinstance(done.exception, SettingsInvalid)
    assert f"  {name}: Value error, {sentence}" in done.exception.message.replace(
        "TEAM_SESSIONS_" + name.removeprefix("TEAM_SESSIONS_"), name
    )
    assert SECRET not in done.exception.message


@pytest.fixture
def ada(postgres: PostgresServer) -> Iterator[Callable[[str, str], str]]:
    """Make the role `ada`, and give it rights on a database; return the database's URL with that role."""
    postgres.execute("CREATE ROLE ada LOGIN")

    def grant(url: str, *rights: str) -> str:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for right in rights:
                connection.execute(text(right))
        engine.dispose()
        return url.replace("postgres@", "ada@")

    yield grant
    postgres.execute("DROP ROLE ada")


RIGHTS = (
    "GRANT USAGE ON SCHEMA team_sessions TO ada",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA team_sessions TO ada",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA team_sessions TO ada",
)


def test_a_role_that_may_not_create_uses_what_is_migrated(
    mistake: Callable[..., str], postgres: PostgresServer, ada: Callable[..., str]
) -> None:
    """An upgrade that has nothing to do does nothing. A missing right ends each command before it begins."""
    url = postgres.new_database()
    upgrade = {"TEAM_SESSIONS_DATABASE_URL": ada(url, *RIGHTS)}

    done = CliRunner().invoke(cli, COMMANDS["upgrade"], env=upgrade)
    listed = CliRunner().invoke(cli, COMMANDS["keys"], env=upgrade)
    without_delete = mistake(ada(url, "REVOKE DELETE ON team_sessions.messages FROM ada"))
    ada(url, "GRANT DELETE ON team_sessions.messages TO ada")
    without_sequences = mistake(ada(url, "REVOKE USAGE ON ALL SEQUENCES IN SCHEMA team_sessions FROM ada"))
    without_schema = mistake(ada(url, "REVOKE USAGE ON SCHEMA team_sessions FROM ada"))

    postgres.drop(url)
    assert (done.exit_code, listed.exit_code) == (0, 0)
    assert "The database is at revision" in done.output
    for message in (without_delete, without_sequences, without_schema):
        assert message.startswith("The database cannot be used. Its user may not read or write the tables. Migrate ")


def test_a_role_that_may_not_create_cannot_upgrade(
    mistake: Callable[..., str], postgres: PostgresServer, ada: Callable[..., str]
) -> None:
    """Neither an empty database, nor one that a revision is missing from."""
    empty, older = postgres.new_database(empty=True), postgres.new_database(empty=True)
    db = Database(older)
    migrate.upgrade(db, to="0009")
    db.close()

    messages = [mistake(ada(empty), "upgrade"), mistake(ada(older, *RIGHTS), "upgrade")]

    for url in (empty, older):
        postgres.drop(url)
    for message in messages:
        assert message.startswith("The database cannot be used. Its user may not create or change the tables. Run ")


def test_a_database_that_is_not_utf8(mistake: Callable[..., str], postgres: PostgresServer) -> None:
    """It could not store every text, so nothing is begun in it."""
    for encoding in ("SQL_ASCII", "LATIN1"):
        postgres.execute(f"CREATE DATABASE odd ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        url = postgres.url("odd")
        messages = [mistake(url, command) for command in IN_PROCESS]
        postgres.drop(url)
        assert {f"Its encoding is {encoding}, not UTF8: it cannot store every text. " in each for each in messages} == {
            True
        }


def test_a_server_that_refuses(mistake: Callable[..., str], server_url: str) -> None:
    """It has no such user, or no such database."""
    name = server_url.partition("?")[0].rpartition("/")[2]
    no_user = server_url.replace("postgres@", f"nobody:{SECRET}@")
    no_database = server_url.replace(f"/{name}?", "/nothing?")

    for url in (no_user, no_database):
        assert "The server has no such database or user. Create it (createdb, createuser)" in mistake(url)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied"), "database_no_file"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "database_read_only"),
        (sqlite3.OperationalError("connection failed: No route to host"), "database_unreachable"),
        (sqlite3.OperationalError("canceling statement due to lock timeout"), "database_lock_held"),
        (sqlite3.OperationalError("canceling statement due to statement timeout"), "database_timeout"),
        (sqlite3.OperationalError("permission denied for schema public"), "database_forbidden"),
        (sqlite3.OperationalError('FATAL:  password authentication failed for user "ada"'), "database_password"),
    ],
)
def test_what_a_driver_says_is_recognised(error: Exception, code: str) -> None:
    """What it says, not its class: an error at connecting has no code."""
    assert database_probe.problem(error).code == code
