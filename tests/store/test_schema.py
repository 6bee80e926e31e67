"""The schema: the migrations build what `tables.py` says, and every query of a run's life hits an index."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BLANK_SCHEMA, MetaData

from tests.support.life import live_through
from tests.support.plans import plan, statements
from worker.store import Database, migrate
from worker.store.tables import SCHEMA, metadata

BIG = ("sessions", "runs", "messages", "idempotency", "tool_starts", "summaries", "summary_jobs")


def test_the_migrations_build_what_the_tables_say(db: Database) -> None:
    """A database that was migrated from nothing has no difference from `tables.py`."""
    with db.read() as tx:
        options = {"compare_type": True, "include_schemas": not db.is_sqlite, **migrate.version_table(tx)}
        options["include_name"] = lambda name, kind, _: kind != "schema" or db.is_sqlite or name == SCHEMA
        target = metadata if not db.is_sqlite else _without_schema()
        differences = compare_metadata(MigrationContext.configure(tx, opts=options), target)

    assert [d for d in differences if "schema_version" not in str(d)] == []


def test_an_upgrade_twice_does_nothing(db: Database) -> None:
    """The second upgrade has nothing to do."""
    migrate.upgrade(db)

    assert migrate.misfit(db) is None


def test_no_statement_of_a_runs_life_scans_a_table(db: Database) -> None:
    """Accept, claim, write, finish, cancel, sweep, read: each finds its rows by an index, however many there are."""
    with statements(db) as seen:
        live_through(db)

    scans = {s: line for s, p in seen.items() for line in plan(db, s, p) if _scans_a_big_table(line)}
    assert len(seen) > 25
    assert scans == {}


def _scans_a_big_table(line: str) -> bool:
    if "Seq Scan on" in line:
        return any(f"Seq Scan on {table}" in line for table in BIG)
    return any(line.startswith(f"SCAN {table}") for table in BIG) and "USING" not in line


def _without_schema() -> Any:
    plain = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(plain, schema=None, referred_schema_fn=lambda *_: BLANK_SCHEMA)
    return plain


@pytest.mark.parametrize("url", ["postgres://u:p@h/d", "postgresql://u:p@h/d"])
def test_a_postgres_address_needs_no_driver(url: str) -> None:
    """Both spellings of the scheme are understood, and the password is not shown."""
    database = Database(url)

    assert database.engine.dialect.driver == "psycopg"
    assert "p@" not in repr(database)
