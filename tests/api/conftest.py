"""One system for each database, shared by all tests of this directory: they keep apart by random ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.api.door import MAX_INPUT, Door
from tests.support.postgres import PostgresServer
from tests.support.system import system
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate


@pytest.fixture(scope="package", params=["sqlite", "postgres"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The door of a worker, which feeds batches too, and an API, on a database and a broker of their own.

    Afterwards neither has met an error without a name, and no run was left behind.
    """
    with opened(request, tmp_path_factory.mktemp("api"), "resumed,runs,batch") as shared:
        yield shared


@pytest.fixture(scope="package", params=["sqlite", "postgres"])
def batch_door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One with a second worker, for what nobody waits for. Marks in the file `also` hold for every model call."""
    directory = tmp_path_factory.mktemp("batches")
    options = ("--also", str(directory / "also"))
    workers = ("resumed,runs", "enqueue,batch,summaries")
    with opened(request, directory, *workers, teams="tests.support.teams", model_options=options) as shared:
        yield shared


@contextmanager
def opened(
    request: pytest.FixtureRequest, directory: Path, *workers: str, teams: str = "tests.api.teams", **options: Any
) -> Iterator[Door]:
    """Give the door of an API, and of workers of these queues, for the block."""
    if request.param == "sqlite":
        url = f"sqlite:///{directory / 'team-sessions.db'}"
        database = Database(url)
        migrate.upgrade(database)
        database.close()
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    settings = {
        "TEAM_SESSIONS_TEAMS": teams,
        "TEAM_SESSIONS_MAX_INPUT_BYTES": str(MAX_INPUT),
        "TEAM_SESSIONS_PRICES": str(directory / "prices.json"),
    }
    (directory / "prices.json").write_text('{"*": {"input": 1000, "output": 2000}}')
    valkey = ValkeyServer()
    try:
        with (
            Redis.from_url(valkey.url, decode_responses=True) as redis,
            system(directory, database_url=url, redis_url=valkey.url, settings=settings, **options) as running,
        ):
            for queues in workers:
                running.start_worker(queues=queues)
            running.start_api().close()
            shared = Door(running, redis)
            yield shared
            shared.rows()
            shared.http.close()
            logs = ("api", *(f"worker-{n}" for n, _ in enumerate(workers, 1)))
            faults = [line for log in logs for line in running.log(log).splitlines() if "ERROR" in line]
            assert not faults
    finally:
        valkey.close()
