"""Outages of Postgres."""

import random
from collections.abc import Iterator
from contextlib import suppress

import psutil
import psycopg

from ops.chaos.faults import FAULTS
from ops.chaos.outages.registry import PORT, full_disk, outage, repeated
from ops.chaos.system import Fleet, Needs
from tests.support.postgres import PostgresServer

MOST_CONNECTIONS = 400  # more than the server accepts


@outage("postgres", PORT)
def stopped_postgres(fleet: Fleet) -> Iterator[None]:
    """Postgres is stopped: connections break, and new ones are refused."""
    assert fleet.postgres is not None
    fleet.postgres.stop()
    yield
    fleet.postgres.start()


@outage("postgres", PORT)
def failed_over_postgres(fleet: Fleet) -> Iterator[None]:
    """Postgres is stopped, and its standby takes its place and its port at the end."""
    assert fleet.postgres is not None
    fleet.postgres.start_standby()
    fleet.postgres.stop()
    yield
    fleet.postgres.promote_standby()


@outage("postgres", PORT)
def frozen_postgres(fleet: Fleet) -> Iterator[None]:
    """Postgres accepts connections and answers nothing (SIGSTOP of all its processes)."""
    assert fleet.postgres is not None
    main = psutil.Process(fleet.postgres.pid)
    main.suspend()
    children = main.children(recursive=True)
    try:
        for child in children:
            child.suspend()
        yield
    finally:
        for process in (*children, main):
            with suppress(psutil.NoSuchProcess):
                process.resume()


@outage("postgres", Needs(proxy=True))
def black_hole(fleet: Fleet) -> Iterator[None]:
    """A proxy in front of Postgres accepts connections, and forwards nothing; Postgres ends what is idle."""
    assert fleet.proxy is not None
    fleet.proxy.flows.clear()
    yield
    fleet.proxy.flows.set()


@outage("postgres", Needs(proxy=True))
def lost_commits(fleet: Fleet) -> Iterator[None]:
    """Three of ten answers to COMMIT are lost: it has happened, and the connection breaks."""
    assert fleet.proxy is not None
    fleet.proxy.probability = 0.3
    yield
    fleet.proxy.probability = 0.0


@outage("postgres", PORT)
def cut_connections(fleet: Fleet) -> Iterator[None]:
    """Every connection to Postgres is terminated, each second."""
    with repeated(lambda: FAULTS["cut_database"].do(fleet, random.Random())):
        yield


@outage("postgres", PORT)
def no_connections(fleet: Fleet) -> Iterator[None]:
    """Others use all of max_connections, and what the processes had is terminated."""
    others: list[psycopg.Connection] = []

    def take() -> None:
        with suppress(psycopg.OperationalError):
            while len(others) < MOST_CONNECTIONS:
                others.append(psycopg.connect(fleet.system.database_url, application_name="others", autocommit=True))

    def terminate() -> None:
        take()
        client = "backend_type = 'client backend' AND application_name <> 'others'"
        others[0].execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {client}")
        take()

    with repeated(terminate):
        yield
    for connection in others:
        connection.close()


@outage("postgres", PORT)
def read_only_postgres(fleet: Fleet) -> Iterator[None]:
    """Every transaction is read-only, as on a server that was demoted."""
    assert fleet.postgres is not None
    name = fleet.system.database_url.rsplit("/", 1)[1]
    fleet.postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    fleet.postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    yield
    fleet.postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@outage("postgres", Needs(port=True, disk_mb=400))
def full_disk_of_postgres(fleet: Fleet) -> Iterator[None]:
    """The disk of Postgres is full. It may end: then it is started again at the end."""
    assert fleet.postgres is not None
    with full_disk(fleet):
        yield
    if not _runs(fleet.postgres):
        fleet.postgres.start()


def _runs(postgres: PostgresServer) -> bool:
    try:
        return bool(psutil.pid_exists(postgres.pid))
    except (OSError, IndexError):  # it has removed the file with its pid
        return False


def _lock(name: str, statement: str, about: str) -> None:
    def hold(fleet: Fleet) -> Iterator[None]:
        with psycopg.connect(fleet.system.database_url) as connection:  # no settings of ours: it may be idle
            connection.execute(statement)
            yield
            connection.rollback()

    hold.__name__, hold.__doc__ = name, about
    outage("postgres", PORT)(hold)


for _table in ("messages", "runs", "sessions", "summaries"):
    for _mode in ("SHARE", "ACCESS EXCLUSIVE"):
        _lock(
            f"{_mode.split()[0].lower()}_lock_of_{_table}",
            f"LOCK TABLE team_sessions.{_table} IN {_mode} MODE",
            f"Another program holds a lock: LOCK TABLE {_table} IN {_mode} MODE.",
        )
_lock(
    "lock_of_a_session",
    "SELECT 1 FROM team_sessions.sessions ORDER BY pk LIMIT 1 FOR UPDATE",
    "Another program holds the lock of one session's row.",
)
_lock(
    "lock_of_all_sessions",
    "SELECT 1 FROM team_sessions.sessions FOR UPDATE",
    "Another program holds the locks of the rows of all sessions.",
)
