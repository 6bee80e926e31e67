"""What `team-sessions doctor` asks a database: what it is, whether it can be written, and which problem it has.

What it returns contains no address, no password and no text of a driver.
"""

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from worker import clock
from worker.domain import Problem
from worker.domain.problem import recognise
from worker.errors import DatabaseUnavailable
from worker.store import teams
from worker.store.columns import db_now
from worker.store.engine import Database, Transaction
from worker.store.tables import teams as table

OLDEST_POSTGRES = (14, "14")
OLDEST_SQLITE = ((3, 35, 0), "3.35")

# Each has the beginning of what its driver says: an error at connecting has no code. The first that fits is taken.
NO_CONNECTIONS = Problem(
    "database_no_connections",
    "All connections that it allows are in use.",
    "Raise max_connections or the limit of the user, put a pooler before it, or run fewer processes.",
    signs=("too many", "remaining connection slots"),
)
ADDRESS = Problem(
    "database_address",
    "Its address names an unknown driver or option.",
    "Write TEAM_SESSIONS_DATABASE_URL as postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE.",
    signs=("invalid connection option", "invalid dsn", "invalid uri"),
)
NO_FILE = Problem(
    "database_no_file",
    "Its file cannot be opened.",
    "Correct the path of TEAM_SESSIONS_DATABASE_URL, or give this user access to the file and its directory.",
    signs=("unable to open",),
)
OTHER = Problem("database_other", "It does not answer, for an unknown reason.", "See the log of the server.")
PROBLEMS = (
    Problem(
        "database_password",
        "It refuses the user or the password.",
        "Correct user and password of TEAM_SESSIONS_DATABASE_URL (special characters as %XX), or its pg_hba.conf.",
        signs=("authentication failed", "no password supplied", "no pg_hba.conf entry"),
    ),
    NO_CONNECTIONS,
    Problem(
        "database_read_only",
        "It accepts no writes: it is a replica, or its file or its disk is read-only.",
        "Name the primary in TEAM_SESSIONS_DATABASE_URL, or make the file writable.",
        signs=("session is read-only", "server is in hot standby", "read-only transaction", "readonly database"),
    ),
    Problem(
        "database_forbidden",
        "Its user may not read or write the tables.",
        "Migrate with the user that the workers have, or grant it everything in the schema team_sessions.",
        signs=("permission denied",),
    ),
    Problem(
        "database_no_database",
        "The server has no such database or user.",
        "Create it (createdb, createuser), or correct TEAM_SESSIONS_DATABASE_URL.",
        signs=("does not exist",),
    ),
    Problem(
        "database_refused",
        "No server listens at its address.",
        "Start the server, or correct host and port of TEAM_SESSIONS_DATABASE_URL.",
        signs=("connection refused", "no such file", "server closed the connection", "starting up", "shutting down"),
    ),
    Problem(
        "database_unreachable",
        "The network does not reach its address, or cuts the connection.",
        "Correct host and port of TEAM_SESSIONS_DATABASE_URL, or open the way to it: firewall, VPN, route.",
        signs=("no route to host", "network is unreachable", "connection reset", "could not receive data"),
    ),
    Problem(
        "database_unknown_host",
        "The host of its address cannot be resolved.",
        "Correct the host of TEAM_SESSIONS_DATABASE_URL, or the name resolution of this machine.",
        signs=("resolve", "translate host name", "name or service not known"),
    ),
    Problem(
        "database_lock_held",
        "Another transaction holds a lock on its tables, and does not release it.",
        "Find it (SELECT * FROM pg_stat_activity WHERE state = 'idle in transaction'), and end it.",
        signs=("lock timeout", "deadlock detected"),
    ),
    Problem(
        "database_timeout",
        "It does not answer: it is frozen or overloaded, or the network drops packets.",
        "Check that its process runs, and that this machine can reach it.",
        signs=("timeout", "timed out"),
    ),
    Problem(
        "database_tls",
        "No encrypted connection could be made.",
        "Compare sslmode and sslrootcert of TEAM_SESSIONS_DATABASE_URL with what the server offers.",
        signs=("ssl", "certificate"),
    ),
    Problem(
        "database_no_space",
        "Its disk is full or fails.",
        "Free space on it. No run is accepted until then.",
        signs=("full", "no space left", "disk i/o"),
    ),
    Problem(
        "database_locked",
        "Another process holds its lock and does not release it.",
        "Find the process that is blocked in a write (fuser shows who has the file open), and end it.",
        signs=("locked",),
    ),
    NO_FILE,
    Problem(
        "database_damaged",
        "Its file is damaged, or is no SQLite database.",
        "Restore it: runbooks/backup-and-restore.md.",
        signs=("malformed", "not a database"),
    ),
    ADDRESS,
)

FAILURES = (DatabaseUnavailable, SQLAlchemyError, ImportError, OSError, ValueError)
"""What opening and querying a database can raise, for any address."""
REFUSALS = (DatabaseUnavailable, SQLAlchemyError)
"""What querying a database can raise once it is open."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a database is. `connections_left` is None for SQLite, which counts none.

    `ahead_s`: seconds by which its clock is ahead of the clock of this machine.
    """

    name: str
    version: str
    oldest: str | None  # if the version is too old: the oldest supported one
    connections_left: int | None
    ahead_s: float


def problem(error: BaseException) -> Problem:
    """Return which problem an error of FAILURES means."""
    if isinstance(error, OSError):  # the driver's own errors are none: this is about the file or its directory
        return NO_FILE
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    otherwise = OTHER if isinstance(error, DatabaseUnavailable) else ADDRESS
    return recognise(PROBLEMS, error, str(getattr(cause, "orig", None) or cause)) or otherwise


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite database, or None for other databases and for one in memory."""
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    name = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return Path(name) if name and name != ":memory:" else None


def server(db: Database) -> Server:
    """Connect, and describe the server.

    Raises:
        one of FAILURES
    """
    with db.read() as tx:
        before = clock.now()
        now = db_now(tx)
        after = clock.now()
        # The time that the query took does not count as a difference.
        ahead = (now - before).total_seconds() if now < before else max(0.0, (now - after).total_seconds())
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
    """  # an ordinary user sees of others' connections their user names only
    count = int(tx.execute(text(left)).scalar_one())
    old = number // 10_000 < OLDEST_POSTGRES[0]
    return Server("Postgres", version, OLDEST_POSTGRES[1] if old else None, count, ahead_s)


def write_something(db: Database) -> None:
    """Write a row and remove it again, in one transaction that is committed. Other transactions do not see the row.

    Raises:
        one of FAILURES
    """
    worker = f"doctor:{secrets.token_hex(8)}"
    with db.write() as tx:
        teams.announce(tx, worker=worker, versions={worker: ""}, queues=())
        tx.execute(delete(table).where(table.c.worker == worker))
