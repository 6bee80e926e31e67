"""A whole installation, for the doctor to look at: workers, API, Flower, on each kind of database."""

from collections.abc import Iterator

import pytest

from tests.doctor.house import House, house
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate


@pytest.fixture(scope="package", params=["sqlite", "postgres"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The installation, and the doctor to ask."""
    directory = tmp_path_factory.mktemp("house")
    valkey = ValkeyServer()
    try:
        if request.param == "sqlite":
            url = f"sqlite:///{directory / 'team-sessions.db'}"
            (directory / "team-sessions.db").touch(mode=0o600)
            db = Database(url)
            migrate.upgrade(db)
            db.close()
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.new_database()
        with house(directory, database_url=url, valkey=valkey) as standing:
            yield standing
    finally:
        valkey.close()
