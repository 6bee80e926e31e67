"""The database of one process, and the only commit in the code.

`write()` is a transaction that commits when its block ends and rolls back when it raises; `read()` is one that changes
nothing. Every function of this package takes such a transaction. No model call, Redis call or sleep happens inside.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from worker import clock
from worker.addresses.database import PostgresAddress, SqliteAddress, parse
from worker.errors import DatabaseUnavailable
from worker.store.columns import utc_now
from worker.store.libpq import ignore_environment
from worker.store.tables import SCHEMA

IDLE_S = 2.0  # a connection that was idle for this long is tested before it is used

# A lost server is noticed within seconds. TCP alone takes a quarter of an hour. The address may name other values.
_PARAMETERS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",  # after a failover, skip the old server
    "client_encoding": "utf8",
}
# What a role, a database or a server can set to another value, and would change what we do. A process that stalls
# inside a transaction must not keep its locks, nor block those who wait for them.
_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "timezone=UTC",
        "idle_in_transaction_session_timeout=10000",
        "lock_timeout=5000",
        "statement_timeout=0",
        "default_transaction_isolation=read\\ committed",
        "standard_conforming_strings=on",
        "datestyle=ISO",
        "intervalstyle=postgres",
        "bytea_output=hex",
    )
)
# An accepted run must survive a crash of the server. A stricter value (remote_apply) stays. Not every server has the
# timeouts.
_SETTINGS = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
    UNION ALL
    SELECT set_config(name, '0', false) FROM (VALUES ('idle_session_timeout'), ('transaction_timeout')) AS t (name)
    WHERE current_setting(name, true) <> '0'
"""

T = TypeVar("T")
Transaction = Connection
"""A connection inside a transaction that `Database.write` or `Database.read` began."""


class Page(list[T]):
    """Some rows of a list, in order. `more`: others follow."""

    more: bool = False


class Database:
    """Connections to one SQLite file or one Postgres database, also through a pooler: `?pooler=transaction`.

    SQLite takes one writer at a time. Inside a process writers queue on a mutex, which is fair, rather than on the
    file's lock, which is not: with 4 × 200 threads the longest wait was 1.2 s with it and 4.2 s without.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Read the address *url*; nothing is connected before the first transaction.

        Raises:
            AddressError: it cannot be used.
        """
        self._url = url
        self.address = parse(url)
        self.is_sqlite = isinstance(self.address, SqliteAddress)
        self.engine = _engine(self.address, pool_size)
        self._writer = threading.RLock() if self.is_sqlite else nullcontext()
        self._in_memory = self.address == SqliteAddress(None)

    def __repr__(self) -> str:
        return f"Database({str(self.address)!r})"

    def is_same(self, other: "Database") -> bool:
        """Whether both hold the same rows: two addresses of one database, or the memory of one object."""
        return self is other or (self.address == other.address and not self._in_memory)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Commit what the block did; if it raises, roll back.

        Raises:
            DatabaseUnavailable: the server or the file cannot be reached, or is locked or full.
        """
        with translated(), self._writer, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Read without blocking writers."""
        # On Postgres each statement is a transaction of its own: BEGIN and ROLLBACK would be two more round trips.
        options: dict[str, Any] = {"reads_only": True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        one_by_one = self._writer if self._in_memory else nullcontext()  # all share one connection
        with translated(), one_by_one, self.engine.connect().execution_options(**options) as connection:
            yield connection

    def pages(
        self, read: Callable[..., list[T]], *, key: Callable[[Any], Any], after: Any, limit: int
    ) -> Iterator[list[T]]:
        """Yield each page that `read(tx, after=…, limit=…)` returns, read in a transaction of its own.

        The next page is read after the *key* of the last row. A `Page` says whether more follow; of other lists, one of
        fewer than *limit* rows is the last.
        """
        while True:
            with self.read() as tx:
                page = read(tx, after=after, limit=limit)
            yield page
            if not page or not (page.more if isinstance(page, Page) else len(page) >= limit):
                return
            after = key(page[-1])

    def connect_ahead(self, count: int) -> None:
        """Connect *count* times, so that the first transactions need not. Never raises: they find out what is wrong."""
        with suppress(SQLAlchemyError), ExitStack() as connections:
            for _ in range(count):
                connections.enter_context(self.engine.connect())

    def dedicated(self) -> "Database":
        """Return this database with a connection pool of its own, which others cannot exhaust.

        SQLite returns itself: all writers of a process queue on one mutex.
        """
        return self if self.is_sqlite else Database(self._url, pool_size=1)

    def leave_to_parent(self) -> None:
        """In a child of a fork: let go of the connections without a word to the server. They are the parent's."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Raise DatabaseUnavailable for errors of the driver: the database cannot be reached, is locked or full."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
        raise DatabaseUnavailable(reason=type(error.__cause__ or error).__name__) from error


def is_read_only(error: BaseException) -> bool:
    """Tell whether Postgres is read-only: https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    return getattr(error, "sqlstate", None) == "25006"


def _engine(address: PostgresAddress | SqliteAddress, pool_size: int) -> Engine:
    if isinstance(address, SqliteAddress):
        return _sqlite(address.file, pool_size)
    return _postgres(address, pool_size)


def _sqlite(file: str | None, pool_size: int) -> Engine:
    if file is not None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite says it better. Its journals get the mode of the file.
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    # One more reader is one more file handle; writers wait for the mutex. In memory, another connection sees nothing.
    pool: dict[str, Any] = {"poolclass": StaticPool}
    if file is not None:
        pool = {"pool_size": pool_size, "max_overflow": -1}
    engine = create_engine(
        URL.create("sqlite", database=file),
        **pool,
        hide_parameters=True,  # parameters are message text, which must not be logged
        connect_args={"timeout": 30, "check_same_thread": False},
        execution_options={"schema_translate_map": {SCHEMA: None}},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver starts no transaction by itself
        connection.create_function("utc_now", 1, utc_now)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # NORMAL survives kill -9, FULL a power cut too: accepted is kept
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "handle_error")
    def leave_read_only(context: Any) -> None:
        """Leave connections that were opened while the file was read-only: they stay so when it no longer is."""
        if (getattr(context.original_exception, "sqlite_errorname", None) or "").startswith("SQLITE_READONLY"):
            context.is_disconnect = True

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only", False)
        # IMMEDIATE takes the write lock first. Otherwise a transaction that reads, then writes, could fail with
        # "database is locked" in its middle.
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _postgres(address: PostgresAddress, pool_size: int) -> Engine:
    # `?pooler=transaction`: each transaction can get another connection of the server, so a connection has no options
    # and no prepared statements. The role has the options then: `ops/handbook/sizing.md`.
    parameters: dict[str, Any] = {**_PARAMETERS, **address.parameters}
    if address.pooled:
        parameters["prepare_threshold"] = None
    else:
        parameters["options"] = f"{parameters.get('options', '')} {_OPTIONS}".strip()
    engine = create_engine(
        URL.create("postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,
        isolation_level="READ COMMITTED",  # part of each BEGIN: no further statement, and it holds behind a pooler
        connect_args=parameters,
    )
    ignore_environment(engine)

    if not address.pooled:

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: Any) -> None:
            connection.autocommit = True
            connection.execute(_SETTINGS)
            connection.autocommit = False

    @event.listens_for(engine, "handle_error")
    def leave_read_only(context: Any) -> None:
        """Leave a server that became read-only."""
        if is_read_only(context.original_exception):
            context.is_disconnect = True

    @event.listens_for(engine, "checkin")
    def used(_connection: Any, record: Any) -> None:
        record.info["used_at"] = clock.monotonic()

    @event.listens_for(engine, "checkout")
    def check_alive(connection: Any, record: Any, _proxy: Any) -> None:
        """Replace idle connections that a restart of the server closed, before they are used."""
        if clock.monotonic() - record.info.get("used_at", clock.monotonic()) < IDLE_S:
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception as error:
            raise DisconnectionError from error  # the pool tries another one

    return engine
