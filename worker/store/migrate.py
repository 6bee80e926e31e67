"""Bring a database to the schema of this version, or say that it is not there yet.

Migrations are Alembic revisions in `migrations/versions`, in two halves where a change needs them: what adds comes
before the deploy, what removes comes after it.
"""

from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from worker.store.engine import Database
from worker.store.tables import SCHEMA

_LOCK = 7_238_146_090_155_202_518  # any number, the same in every process


def upgrade(db: Database, *, to: str = "head") -> None:
    """Run the migrations that are missing, in one transaction; two processes at once do it one after the other."""
    with db.write() as tx:
        if not db.is_sqlite:
            tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            tx.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        config = _config()
        config.attributes["connection"] = tx
        command.upgrade(config, to)


def is_current(db: Database) -> bool:
    """Tell whether the database has the schema that this version of the code expects."""
    with db.read() as tx:
        return current_revision(tx) == _newest_revision()


def current_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at; None: it is empty."""
    return MigrationContext.configure(tx, opts=version_table(tx)).get_current_revision()


def version_table(tx: Connection) -> dict[str, Any]:
    """Return where Alembic keeps the revision: beside our tables."""
    return {
        "version_table": "schema_version",
        "version_table_schema": None if tx.dialect.name == "sqlite" else SCHEMA,
    }


@cache
def _newest_revision() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
