"""Real parts for every test: SQLite and Postgres, Valkey."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from redis import Redis

from api_stub.client import Retries
from tests.support.clients import KINDS, QUICK, Connect
from tests.support.postgres import NoPostgres, PostgresServer
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate

hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts us behind its back: our programs inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests of these directories start processes, as do those marked `processes`, which run on Postgres: without --all each
# runs on one database. What differs between the databases is tested on both in store/, flows/ and properties/.
PROCESS_TESTS = {"api": "postgres", "doctor": "sqlite", "threats": "postgres"}
# Fixtures that start a whole system for their package: the tests of one system go to one process of xdist.
SYSTEMS = ("door", "batch_door", "installed", "house", "running_up", "shop")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what `-m` excludes
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `ops/test` leaves to `ops/test --all`, and group the tests that share a running system."""
    for item in items:
        database = next((kind for kind in ("sqlite", "postgres") if kind in re.split(r"[-\[\]]", item.name)), "")
        default = PROCESS_TESTS.get(item.path.parent.name, "postgres" if item.get_closest_marker("processes") else None)
        if marker := item.get_closest_marker("default_on"):
            default = marker.args[0]
        if default and database and database != default:
            item.add_marker(pytest.mark.extended)
        for system in SYSTEMS:
            if system in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}-{system}-{database}"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in list(os.environ):
        ours = name.startswith(("TEAM_SESSIONS_", "OPENAI_", "OTEL_")) or name in ("DATABASE_URL", "REDIS_URL")
        if ours and not name.startswith("TEAM_SESSIONS_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres server. Where none can be had, tests that need it are skipped; under CI they fail."""
    try:
        server = PostgresServer()
    except NoPostgres as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey server for the whole session."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """The session's Valkey, empty. Afterwards every key has a lifetime, or is a broker's own."""
    with Redis.from_url(valkey_server.url, decode_responses=True) as redis:
        redis.flushall()
        yield valkey_server
        leaks = [key for key in redis.scan_iter() if redis.ttl(key) == -1 and not _is_brokers(key)]
        assert not leaks, f"keys without a lifetime: {leaks}"


def _is_brokers(key: str) -> bool:
    """Celery's queues and bindings; they hold ids only, and are bounded by the number of ready runs."""
    return key.startswith(("_kombu.", "unacked")) or key in ("runs", "resumed", "batch", "enqueue", "summaries")


@pytest.fixture
def new_sqlite(tmp_path: Path) -> Callable[[], str]:
    """Make a migrated SQLite file and return its URL."""

    def make() -> str:
        url = f"sqlite:///{tmp_path / 'team-sessions.db'}"
        db = Database(url)
        migrate.upgrade(db)
        db.close()
        return url

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, new_sqlite: Callable[[], str]) -> Iterator[str]:
    """The URL of a new, migrated database: each test that asks for it runs on both."""
    if request.param == "sqlite":
        yield new_sqlite()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that no version has migrated yet, on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'team-sessions.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database(empty=True)
    yield url
    server.drop(url)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An open database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(params=KINDS, ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make a client of an API: each test that asks for it runs with both kinds. They hardly pause between tries."""
    made: list[Any] = []

    def make(url: str, key: str = "a-key", retries: Retries = QUICK) -> Any:
        made.append(request.param(url, key, retries=retries))
        return made[-1]

    yield make
    for client in made:
        client.close()
