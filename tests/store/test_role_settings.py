"""What a role or a database of Postgres sets does not change what is done."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support.postgres import PostgresServer
from worker.store import Database

SETTINGS = {
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1min",
    "lock_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "idle_session_timeout": "1min",
    "timezone": "Asia/Kolkata",
    "synchronous_commit": "off",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "client_encoding": "LATIN1",
    "search_path": "nowhere",
}
OURS = {
    "transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "0",
    "TimeZone": "UTC",
    "synchronous_commit": "on",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "client_encoding": "UTF8",
}


@pytest.fixture
def odd_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a migrated database that sets all of SETTINGS."""
    url = postgres.new_database()
    name = url.split("@/", 1)[1].split("?", 1)[0]
    for setting, value in SETTINGS.items():
        postgres.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    yield url
    postgres.drop(url)


def show(db: Database, *names: str) -> dict[str, str]:
    """Return settings as they are in a transaction that writes."""
    with db.write() as tx:
        return {name: str(tx.execute(text(f"SHOW {name}")).scalar_one()) for name in names}


def test_every_connection_has_our_settings(odd_url: str) -> None:
    """Also one that was used to read in between, which is another kind of transaction."""
    db = Database(odd_url, pool_size=1)
    first = show(db, *OURS)
    with db.read() as tx:
        tx.execute(text("SELECT count(*) FROM team_sessions.runs")).scalar_one()

    again = show(db, *OURS)

    db.close()
    assert (first, again) == (OURS, OURS)


def test_behind_a_pooler_each_transaction_names_its_isolation(odd_url: str) -> None:
    """A pooler of transactions keeps no setting of a connection, so it stands in each BEGIN."""
    db = Database(f"{odd_url}&pooler=transaction", pool_size=1)
    with db.read() as tx:
        tx.execute(text("SELECT 1")).scalar_one()

    found = show(db, "transaction_isolation", "statement_timeout")

    db.close()
    assert found == {"transaction_isolation": "read committed", "statement_timeout": "1min"}


def test_a_stricter_commit_stays(postgres: PostgresServer) -> None:
    """Only `off` is replaced, since it can lose what was accepted. Options of the address hold as well."""
    url = postgres.new_database()
    name = url.split("@/", 1)[1].split("?", 1)[0]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = 'remote_apply'")
    db = Database(f"{url}&options=-c%20work_mem%3D5MB&connect_timeout=7&application_name=shop")

    found = show(db, "synchronous_commit", "work_mem", "application_name", "lock_timeout")

    db.close()
    postgres.drop(url)
    assert found == {
        "synchronous_commit": "remote_apply",
        "work_mem": "5MB",
        "application_name": "shop",
        "lock_timeout": "5s",
    }
