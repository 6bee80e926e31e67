"""A new database of either kind, migrated, on a disk, as durable as in production; and a broker. Gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate

KINDS = ("sqlite", "postgres")


@contextmanager
def new_database(kind: str) -> Iterator[str]:
    """Give the URL of a new database of *kind*; its server, if it has one, ends with the block."""
    if kind == "postgres":
        with new_postgres() as server:
            yield server.new_database()
        return
    with tempfile.TemporaryDirectory(prefix="ts-bench-") as directory:
        url = f"sqlite:///{Path(directory) / 'team-sessions.db'}"
        db = Database(url)
        migrate.upgrade(db)
        db.close()
        yield url


@contextmanager
def new_postgres() -> Iterator[PostgresServer]:
    """Give a Postgres server for several databases, which ends with the block."""
    server = PostgresServer(durable=True)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def new_broker() -> Iterator[str]:
    """Give the URL of a new Valkey, which ends with the block."""
    server = ValkeyServer()
    try:
        yield server.url
    finally:
        server.close()


def server_version(db: Database) -> str:
    """Return the version of the database."""
    with db.read() as tx:
        return str(tx.execute(text("SELECT sqlite_version()" if db.is_sqlite else "SHOW server_version")).scalar_one())
