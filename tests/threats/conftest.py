"""`team-sessions up` as a user starts it, with its own broker and the real Flower, once for each database."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer
from tests.threats.house import House, house_in
from worker.store import Database, migrate


@pytest.fixture(scope="package", params=["sqlite", "postgres"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A running house, at the most talkative log level: lines for people on SQLite, JSON on Postgres."""
    directory = tmp_path_factory.mktemp("threats")
    if request.param == "sqlite":
        url = f"sqlite:///{directory / 'data/team-sessions.db'}"
        database = Database(url)
        migrate.upgrade(database)
        database.close()
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    with house_in(directory, database_url=url, log_style="readable" if request.param == "sqlite" else "json") as built:
        yield built
