"""One system for each database, shared by all tests of this directory: they keep apart by random ids."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.api.door import MAX_INPUT, Door
from tests.support.postgres import PostgresServer
from tests.support.system import system
from tests.support.valkey import ValkeyServer
from worker.store import migrate
from worker.store.engine import Database


@pytest.fixture(scope="package", params=["sqlite", "postgres"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The door of a worker and an API on a database of their own and a broker of their own.

    Afterwards neither has met an error without a name, and no run was left behind.
    """
    directory = tmp_path_factory.mktemp("api")
    if request.param == "sqlite":
        url = f"sqlite:///{directory / 'team-sessions.db'}"
        database = Database(url)
        migrate.upgrade(database)
        database.close()
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    settings = {"TEAM_SESSIONS_TEAMS": "tests.api.teams", "TEAM_SESSIONS_MAX_INPUT_BYTES": str(MAX_INPUT)}
    valkey = ValkeyServer()
    try:
        with (
            Redis.from_url(valkey.url, decode_responses=True) as redis,
            system(directory, database_url=url, redis_url=valkey.url, settings=settings) as running,
        ):
            running.start_worker()
            running.start_api().close()
            shared = Door(running, redis)
            yield shared
            shared.rows()
            shared.http.close()
            faults = [line for log in ("api", "worker-1") for line in running.log(log).splitlines() if "ERROR" in line]
            assert not faults
    finally:
        valkey.close()
