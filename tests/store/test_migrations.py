"""The first revision, and databases that were made before it."""

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.schema import describe
from worker.errors import SchemaOutdated
from worker.store import Database, migrate


def test_a_new_database_has_the_schema_that_the_unreleased_migrations_made(empty_url: str) -> None:
    """A database that nine unreleased migrations brought to "0009" needs no migration: the schemas are equal.

    The files were written from databases that those nine migrations had made.
    """
    db = Database(empty_url)
    expected = Path(__file__).with_name(f"schema_0009_{'sqlite' if db.is_sqlite else 'postgres'}.txt")

    migrate.upgrade(db, to="0009")
    lines = describe(db)
    db.close()

    assert lines == expected.read_text().splitlines()


def test_a_database_of_an_unreleased_version_is_refused(db: Database) -> None:
    """The error says what to do, and the database stays as it is."""
    with db.write() as tx:
        table = "schema_version" if db.is_sqlite else "team_sessions.schema_version"
        tx.execute(text(f"UPDATE {table} SET version_num = '0005'"))

    misfit = migrate.misfit(db)
    with pytest.raises(SchemaOutdated, match="Upgrade it with commit 8bc9431, or use a new database"):
        migrate.upgrade(db)

    assert misfit is not None
    assert "it is at revision '0005' of an unreleased version." in misfit
