"""What `team-sessions doctor` asks a database: what it is, whether it can be written, and which problem it has.

What it returns contains no address, no password and no text of a driver.
"""

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import bindparam, delete, text
from sqlalchemy.exc import SQLAlchemyError

from worker import clock
from worker.addresses import AddressError
from worker.addresses.database import PostgresAddress, SqliteAddress, parse
from worker.domain import Problem
from worker.domain.problem import recognise
from worker.errors import DatabaseUnavailable
from worker.store import teams
from worker.store.columns import db_now
from worker.store.engine import Database, Transaction
from worker.store.tables import SCHEMA, metadata
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
    "Its address cannot be used.",
    "Write TEAM_SESSIONS_DATABASE_URL as postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE.",
    signs=("invalid connection option", "invalid dsn", "invalid uri", "invalid value for", "invalid integer value"),
    lasting=True,
)
NO_FILE = Problem(
    "database_no_file",
    "Its file cannot be opened.",
    "Correct the path of TEAM_SESSIONS_DATABASE_URL, or give this user access to the file and its directory.",
    signs=("unable to open",),
)
TOO_OLD = Problem("database_too_old", "It is too old.", "Upgrade it.", lasting=True)
ENCODING = Problem(
    "database_encoding",
    "Its encoding is not UTF8: it cannot store every text.",
    "Make one with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, and name it in TEAM_SESSIONS_DATABASE_URL.",
    lasting=True,
)
IN_MEMORY = Problem(
    "database_in_memory",
    "It is an SQLite database in the memory of each process: nothing is kept or shared.",
    "Name a file in TEAM_SESSIONS_DATABASE_URL: sqlite:///FILE.",
    lasting=True,
)
FORBIDDEN = Problem(
    "database_forbidden",
    "Its user may not read or write the tables.",
    "Migrate with the user that the workers have, or grant it everything in the schema team_sessions.",
    signs=("permission denied",),
)
MAY_NOT_MIGRATE = Problem(
    "database_may_not_migrate",
    "Its user may not create or change the tables.",
    "Run 'team-sessions db upgrade' as the owner of the schema team_sessions; if there is none yet, as a user with "
    "CREATE on the database.",
    signs=("permission denied", "must be owner"),
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
        "It accepts no writes: it is a replica, its user or database sets default_transaction_read_only, or its file "
        "or its disk is read-only.",
        "Name the primary in TEAM_SESSIONS_DATABASE_URL, RESET default_transaction_read_only, or make the file "
        "writable.",
        signs=("session is read-only", "server is in hot standby", "read-only transaction", "readonly database"),
    ),
    FORBIDDEN,
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

# What the role of pooled connections needs: how it is set, and whether a value is good.
ROLE_SETTINGS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "lock_timeout": ("5s", lambda value: value != "0"),
    "idle_in_transaction_session_timeout": ("10s", lambda value: value != "0"),
    "statement_timeout": ("0", lambda value: value == "0"),
    "synchronous_commit": ("on", lambda value: value != "off"),
    "standard_conforming_strings": ("on", lambda value: value == "on"),
    "datestyle": ("ISO", lambda value: value.startswith("ISO")),
}

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
    connections_left: int | None
    ahead_s: float


def problem(error: BaseException, *, migrating: bool = False) -> Problem:
    """Return which problem an error of FAILURES means; *migrating*: it was raised by an upgrade of the schema."""
    if isinstance(error, AddressError):
        return replace(ADDRESS, sentence=f"Its address cannot be used: {error}.")
    if isinstance(error, OSError):  # the driver's own errors are none: this is about the file or its directory
        return NO_FILE
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else error
    otherwise = OTHER if isinstance(error, DatabaseUnavailable) else ADDRESS
    known = (MAY_NOT_MIGRATE, *PROBLEMS) if migrating else PROBLEMS
    return recognise(known, error, str(getattr(cause, "orig", None) or cause)) or otherwise


def file_of(url: str) -> Path | None:
    """Return the file of an SQLite database, or None for other databases and for one in memory."""
    address = parse(url)
    return Path(address.file) if isinstance(address, SqliteAddress) and address.file else None


def unsuitable(db: Database) -> Problem | None:
    """Connect, and return why this database cannot be used, whatever its schema; None: it is suitable.

    Raises:
        one of FAILURES
    """
    if db.address == SqliteAddress(None):
        return IN_MEMORY
    with db.read() as tx:
        name, version, oldest = ("SQLite", *_sqlite_version()) if db.is_sqlite else ("Postgres", *_postgres_version(tx))
        encoding = "UTF8" if db.is_sqlite else str(tx.execute(text("SHOW server_encoding")).scalar_one())
    if oldest is not None:
        return replace(TOO_OLD, sentence=f"It is {name} {version}; expected {oldest} or newer.")
    if encoding != "UTF8":
        return replace(ENCODING, sentence=f"Its encoding is {encoding}, not UTF8: it cannot store every text.")
    return None


def forbidden(db: Database) -> Problem | None:
    """Return that the user lacks a right on the tables, which exist; None: it has all that workers and API need.

    Raises:
        one of REFUSALS
    """
    if db.is_sqlite:
        return None
    lacking = """
        SELECT count(*) FROM pg_class c JOIN pg_namespace n ON c.relnamespace = n.oid,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE']) AS needed
        WHERE n.nspname = :schema AND CASE
            WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN true
            WHEN c.relkind = 'S' THEN needed = 'USAGE' AND NOT has_sequence_privilege(c.oid, needed)
            WHEN c.relname IN :tables THEN needed <> 'USAGE' AND NOT has_table_privilege(c.oid, needed)
            ELSE false END
    """
    statement = text(lacking).bindparams(bindparam("tables", expanding=True))
    values = {"schema": SCHEMA, "tables": [each.name for each in metadata.sorted_tables]}
    with db.read() as tx:
        return FORBIDDEN if tx.execute(statement, values).scalar_one() else None


def may_migrate(db: Database) -> bool:
    """Tell whether the user may create the schema, or tables in it.

    Raises:
        one of REFUSALS
    """
    if db.is_sqlite:
        return True
    may = """
        SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = :schema),
                        has_database_privilege(current_database(), 'CREATE'))
    """
    with db.read() as tx:
        return bool(tx.execute(text(may), {"schema": SCHEMA}).scalar_one())


def role_settings(db: Database) -> list[str]:
    """Return what the role of pooled connections lacks, as `name = value`. A direct connection sets all by itself.

    Raises:
        one of REFUSALS
    """
    if not (isinstance(db.address, PostgresAddress) and db.address.pooled):
        return []
    with db.read() as tx:
        found = {name: str(tx.execute(text(f"SHOW {name}")).scalar_one()) for name in ROLE_SETTINGS}
    return [f"{name} = '{value}'" for name, (value, fits) in ROLE_SETTINGS.items() if not fits(found[name])]


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
            return Server("SQLite", sqlite3.sqlite_version, None, ahead)
        left = """
            SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                   - (SELECT count(*) FROM pg_stat_activity WHERE usename IS NOT NULL)
        """  # an ordinary user sees of others' connections their user names only
        return Server("Postgres", _postgres_version(tx)[0], int(tx.execute(text(left)).scalar_one()), ahead)


def _sqlite_version() -> tuple[str, str | None]:
    """Return the version and, if it is too old, the oldest supported one."""
    return sqlite3.sqlite_version, OLDEST_SQLITE[1] if sqlite3.sqlite_version_info < OLDEST_SQLITE[0] else None


def _postgres_version(tx: Transaction) -> tuple[str, str | None]:
    """Return the version and, if it is too old, the oldest supported one."""
    number = int(tx.execute(text("SHOW server_version_num")).scalar_one())
    version = str(tx.execute(text("SHOW server_version")).scalar_one()).split()[0]
    return version, OLDEST_POSTGRES[1] if number // 10_000 < OLDEST_POSTGRES[0] else None


def write_something(db: Database) -> None:
    """Write a row and remove it again, in one transaction that is committed. Other transactions do not see the row.

    Raises:
        one of FAILURES
    """
    worker = f"doctor:{secrets.token_hex(8)}"
    with db.write() as tx:
        teams.announce(tx, worker=worker, versions={worker: ""}, queues=())
        tx.execute(delete(table).where(table.c.worker == worker))
