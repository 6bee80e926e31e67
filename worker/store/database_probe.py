"""How a database stands, seen from outside: what it is, whether it can be written, and what keeps it from answering.

For `team-sessions doctor`. Nothing of it raises what a driver says, and no address or password is in what it returns.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import delete, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from worker import clock
from worker.errors import DatabaseUnavailable
from worker.store import teams
from worker.store.columns import db_now
from worker.store.engine import Database, Transaction
from worker.store.tables import teams as table

OLDEST_POSTGRES = (14, "14")
OLDEST_SQLITE = ((3, 35, 0), "3.35")


class Trouble(StrEnum):
    """What keeps a database from answering."""

    REFUSED = "refused"  # nobody listens there
    UNKNOWN_HOST = "unknown_host"
    PASSWORD = "password"  # noqa: S105 - a kind, and no password
    NO_DATABASE = "no_database"  # the server has none of that name
    NO_CONNECTIONS = "no_connections"  # all are taken
    READ_ONLY = "read_only"
    FORBIDDEN = "forbidden"  # its user may not do what we do
    TIMEOUT = "timeout"
    TLS = "tls"
    NO_SPACE = "no_space"
    LOCKED = "locked"
    NO_FILE = "no_file"  # SQLite cannot open it
    DAMAGED = "damaged"
    ADDRESS = "address"  # it names a driver or an option that there is none of
    OTHER = "other"


# What the drivers say, in the order in which it is looked for; an error at connecting has no code to go by.
_SAYINGS = {
    "password authentication failed": Trouble.PASSWORD,
    "no password supplied": Trouble.PASSWORD,
    "no pg_hba.conf entry": Trouble.PASSWORD,
    "authentication failed": Trouble.PASSWORD,
    "too many": Trouble.NO_CONNECTIONS,
    "remaining connection slots": Trouble.NO_CONNECTIONS,
    "session is read-only": Trouble.READ_ONLY,
    "server is in hot standby": Trouble.READ_ONLY,
    "read-only transaction": Trouble.READ_ONLY,
    "readonly database": Trouble.READ_ONLY,
    "permission denied": Trouble.FORBIDDEN,
    "does not exist": Trouble.NO_DATABASE,
    "connection refused": Trouble.REFUSED,
    "no such file": Trouble.REFUSED,
    "server closed the connection": Trouble.REFUSED,
    "starting up": Trouble.REFUSED,
    "shutting down": Trouble.REFUSED,
    "resolve": Trouble.UNKNOWN_HOST,
    "translate host name": Trouble.UNKNOWN_HOST,
    "name or service not known": Trouble.UNKNOWN_HOST,
    "timeout": Trouble.TIMEOUT,
    "timed out": Trouble.TIMEOUT,
    "ssl": Trouble.TLS,
    "certificate": Trouble.TLS,
    "full": Trouble.NO_SPACE,
    "no space left": Trouble.NO_SPACE,
    "disk i/o": Trouble.NO_SPACE,
    "locked": Trouble.LOCKED,
    "unable to open": Trouble.NO_FILE,
    "malformed": Trouble.DAMAGED,
    "not a database": Trouble.DAMAGED,
    "invalid connection option": Trouble.ADDRESS,
    "invalid dsn": Trouble.ADDRESS,
    "invalid uri": Trouble.ADDRESS,
}

FAILURES = (DatabaseUnavailable, SQLAlchemyError, ImportError, OSError, ValueError)
"""What opening and asking a database can end with, whatever its address says."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a database is. `connections_left` None: it counts none (SQLite). `ahead_s`: of the clock of this host."""

    name: str
    version: str
    oldest: str | None  # where the version is too old: the oldest that will do
    connections_left: int | None
    ahead_s: float


def trouble(error: BaseException) -> Trouble:
    """Say which trouble it is that an error of FAILURES tells of."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    said = str(getattr(cause, "orig", None) or cause).lower()
    if found := next((trouble for saying, trouble in _SAYINGS.items() if saying in said), None):
        return found
    return Trouble.OTHER if isinstance(error, DatabaseUnavailable) else Trouble.ADDRESS


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite database that is kept in one, else None."""
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    named = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return Path(named) if named and named != ":memory:" else None


def server(db: Database) -> Server:
    """Connect, and say what is there.

    Raises:
        One of FAILURES
    """
    with db.read() as tx:
        before = clock.now()
        theirs = db_now(tx)
        after = clock.now()
        # What the answer took on its way is nobody's error.
        ahead = (theirs - before).total_seconds() if theirs < before else max(0.0, (theirs - after).total_seconds())
        if db.is_sqlite:
            old = sqlite3.sqlite_version_info < OLDEST_SQLITE[0]
            return Server("SQLite", sqlite3.sqlite_version, OLDEST_SQLITE[1] if old else None, None, ahead)
        return _postgres(tx, ahead)


def _postgres(tx: Transaction, ahead_s: float) -> Server:
    number = int(tx.execute(text("SHOW server_version_num")).scalar_one())
    version = str(tx.execute(text("SHOW server_version")).scalar_one()).split()[0]
    left = """
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - (SELECT count(*) FROM pg_stat_activity WHERE usename IS NOT NULL)
    """  # of others' connections an ordinary user sees little, but their names
    count = int(tx.execute(text(left)).scalar_one())
    old = number // 10_000 < OLDEST_POSTGRES[0]
    return Server("Postgres", version, OLDEST_POSTGRES[1] if old else None, count, ahead_s)


def write_something(db: Database) -> None:
    """Write a row and remove it again, in one transaction that is committed: nobody else sees it.

    Raises:
        One of FAILURES
    """
    nobody = f"doctor:{secrets.token_hex(8)}"
    with db.write() as tx:
        teams.announce(tx, worker=nobody, versions={nobody: ""}, queues=())
        tx.execute(delete(table).where(table.c.worker == nobody))
