"""Outages of SQLite."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing

from ops.chaos.outages.registry import full_disk, outage
from ops.chaos.system import Fleet, Needs, NotPossible


@outage("sqlite")
def locked_sqlite(fleet: Fleet) -> Iterator[None]:
    """Another program holds SQLite's lock: BEGIN EXCLUSIVE."""
    file = fleet.store / "team-sessions.db"
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@outage("sqlite", Needs(disk_mb=100))
def full_disk_of_sqlite(fleet: Fleet) -> Iterator[None]:
    """The disk of the SQLite file is full."""
    with full_disk(fleet):
        yield


@outage("sqlite")
def read_only_sqlite(fleet: Fleet) -> Iterator[None]:
    """The files of SQLite become read-only, also for those who have opened them (chattr +i)."""
    files = [str(file) for file in sorted(fleet.store.glob("team-sessions.db*"))]
    try:
        subprocess.run(["chattr", "+i", *files], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        subprocess.run(["chattr", "-i", *files], check=False, capture_output=True)
        raise NotPossible("it needs root, and a file system with immutable files") from error
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


@outage("sqlite")
def moved_sqlite(fleet: Fleet) -> Iterator[None]:
    """The directory of the SQLite file is moved away, and back at the end."""
    away = fleet.store.with_name("moved")
    fleet.store.rename(away)
    yield
    if fleet.store.exists():
        raise RuntimeError(f"something made the directory again: {[file.name for file in fleet.store.iterdir()]}")
    away.rename(fleet.store)
