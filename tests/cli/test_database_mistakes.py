"""A database that a command cannot use: it says which mistake that is, in the words of `doctor`."""

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM
from worker.cli.main import cli
from worker.errors import DatabaseUnusable
from worker.queue.embedded import free_port
from worker.store import database_probe

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
        (f"postgresql+mysql://ada:{SECRET}@127.0.0.1/db", "Its address names an unknown driver or option."),
        (f"postgresql://ada:{SECRET}@127.0.0.1/db?no_such_option=1", "Its address names an unknown driver or option."),
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
