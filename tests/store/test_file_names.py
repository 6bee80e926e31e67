"""An SQLite file, and the directory of `up`, can have any name."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from redis import ConnectionError, Redis

from tests.support.system import wait_until
from worker import SqliteDb
from worker.queue import embedded
from worker.settings import load
from worker.store import Database, migrate

NAMES = ["what?", "a%20b", "x#y", "quotes '\"", " blanks ", "Größe 日本", "two\nlines", "back\\slash", "file:x?mode=ro"]


@pytest.mark.parametrize("name", NAMES)
def test_the_database_is_where_the_setting_says_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With its journals, whatever the umask is. Nothing else is written."""
    directory = tmp_path / name
    monkeypatch.setenv("TEAM_SESSIONS_DATA_DIR", str(directory))
    before = os.umask(0o000)
    try:
        db = Database(load().database)
        migrate.upgrade(db)
        files = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
        db.close()
    finally:
        os.umask(before)

    assert {path.parent for path in files} == {directory}
    assert directory / "team-sessions.db" in files
    assert set(files.values()) == {0o600}


@pytest.mark.parametrize("name", NAMES)
def test_the_database_of_a_script_is_the_file_that_it_names(tmp_path: Path, name: str) -> None:
    """`SqliteDb` takes a path, no part of a URL."""
    db = SqliteDb(tmp_path / name)
    assert db.runtime.db.is_sqlite
    db.close()

    assert (tmp_path / name).exists()
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()} == {name}


def test_the_embedded_broker_starts_in_any_directory(tmp_path: Path) -> None:
    """Its configuration has a syntax of its own."""
    directory = tmp_path / "".join(NAMES)
    directory.mkdir()
    port = embedded.free_port()
    configured = embedded.configuration(port=port, password="p", directory=directory)
    server = subprocess.Popen(embedded.command(), stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
    assert server.stdin is not None
    with server.stdin:
        server.stdin.write(configured)
    try:
        with Redis(port=port, password="p", decode_responses=True) as redis:
            wait_until(lambda: _answers(redis), description="the broker answers")
            assert redis.config_get("dir") == {"dir": str(directory)}
    finally:
        server.kill()
        server.wait()


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except ConnectionError:
        return False
