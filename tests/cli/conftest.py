"""One worker and one API for the commands that talk to the API."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.system import PROGRAM, System, system
from tests.support.terminal import Terminal
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system on SQLite; its directory holds what `up` writes, so that commands find it."""
    directory = tmp_path_factory.mktemp("cli")
    url = f"sqlite:///{directory / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    valkey = ValkeyServer()
    try:
        with system(directory, database_url=url, redis_url=valkey.url) as started:
            started.start_worker()
            started.start_api()
            (directory / ".team-sessions").mkdir()
            (directory / ".team-sessions/api-url").write_text(started.url)
            (directory / ".team-sessions/api-key").write_text(started.key)
            yield started
    finally:
        valkey.close()


@pytest.fixture
def open_chat(running: System) -> Iterator[Callable[..., Terminal]]:
    """Start `team-sessions chat` in a terminal and wait until it asks for a line."""
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}
        opened.append(Terminal([*PROGRAM, "chat", *arguments], environment=environment, directory=running.directory))
        opened[-1].until("> ")
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture
def pipe(running: System) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command with text on its standard input, and return what it came to."""

    def run(*arguments: str, said: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PROGRAM, *arguments],
            input=said,
            env={**os.environ, **environment},
            cwd=running.directory,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    return run
