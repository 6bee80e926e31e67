"""Bring a database to the schema of this version, or say why the two do not fit.

Migrations are Alembic revisions in `migrations/versions`, one line of them. A change that takes something away comes
in two halves, so that processes of the version before work on meanwhile: what adds is made before the deploy; what
removes is a revision of its own with `removes = True`, made when no process of an older version is left.

A revision can have `backfill(tx, after)`, called before its `upgrade()`: it does one bounded piece behind the key
*after* (None: the first one), and returns the last key that it did, or None at the end. Each piece is a transaction
of its own, and doing one again does no harm: what was stopped begins again at the start.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, inspect, text

from worker.errors import DatabaseUnavailable
from worker.store.engine import Database, Transaction
from worker.store.tables import SCHEMA, metadata

_LOCK = 7_238_146_090_155_202_518  # any number, the same in every process
_LOCK_S, _TRIES = 1, 30  # a table's lock is waited for so long, since all others wait behind it; then tried again
T = TypeVar("T")


def upgrade(
    db: Database, *, to: str = "head", removing: bool = True, on_piece: Callable[[str], None] = lambda _: None
) -> None:
    """Make the revisions that are missing, each in one transaction; two processes at once make each of them once.

    Without *removing*, stop before the first that removes something. An empty database is made in one transaction. One
    that a newer version has migrated stays as it is. *on_piece* is called with the revision behind each piece of a
    backfill.

    Raises:
        DatabaseUnavailable: it cannot be reached, or a lock was not to be had; what is made is kept.
    """
    at = _begin(db, to)
    for revision in missing(at):
        if at == to or (removes(revision) and not removing):
            return
        _fill(db, revision, on_piece)
        _locked(db, partial(_make_next, revision))
        at = revision.revision


def misfit(db: Database) -> str | None:
    """Say why this version of the code cannot work with the database, and what to do; None: it can.

    It needs every revision that adds. A newer database will do as long as it has every column that we use: what a
    newer version adds does no harm to us.
    """
    with db.read() as tx:
        at = current_revision(tx)
        lacking = [] if at is None or _knows(at) else _lacking(tx)
    if lacking:
        return f"a newer version has removed {', '.join(lacking)} (revision {at!r}). Install that version again."
    behind = missing(at)
    needed = [revision.revision for revision in behind if not removes(revision)]
    if not needed:
        return None
    found = f"it is {'empty' if at is None else f'at revision {at!r}'} and needs {needed[-1]!r}."
    if at is None or not removes(behind[0]):
        return f"{found} Run 'team-sessions db upgrade' first."
    return f"{found} {behind[0].revision!r} is in the way: see 'team-sessions db upgrade --help'."


def missing(at: str | None) -> Sequence[Script]:
    """Return the revisions behind revision *at*, the next one first; none if we do not know it: it is a newer one."""
    line = _line()
    ids = [None, *(revision.revision for revision in line)]
    return line[ids.index(at) :] if at in ids else ()


def removes(revision: Script) -> bool:
    """Tell whether a revision takes away what processes of older versions use."""
    return bool(getattr(revision.module, "removes", False))


def current_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at; None: it is empty."""
    return MigrationContext.configure(tx, opts=version_table(tx)).get_current_revision()


def version_table(tx: Connection) -> dict[str, Any]:
    """Return where Alembic keeps the revision: beside our tables."""
    return {
        "version_table": "schema_version",
        "version_table_schema": None if tx.dialect.name == "sqlite" else SCHEMA,
    }


def _begin(db: Database, to: str) -> str | None:
    """Make an empty database up to *to*; return the revision that it is at."""

    def begin(tx: Transaction) -> str | None:
        if not db.is_sqlite:
            tx.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        if current_revision(tx) is None:
            _make(tx, to)
        return current_revision(tx)

    return _locked(db, begin)


def _fill(db: Database, revision: Script, on_piece: Callable[[str], None]) -> None:
    """Do a revision's backfill, piece by piece, if it has one."""
    backfill: Callable[[Transaction, Any], Any] | None = getattr(revision.module, "backfill", None)
    after = None
    while backfill is not None:
        with db.write() as tx:
            after = backfill(tx, after)
        on_piece(revision.revision)
        if after is None:
            return


def _locked(db: Database, work: Callable[[Transaction], T]) -> T:
    """Do *work* in a transaction, while no other process migrates; again where a lock was not to be had for a while."""
    for left in reversed(range(_TRIES)):
        try:
            with db.write() as tx:
                if not db.is_sqlite:
                    tx.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_S}s'"))
                    tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                return work(tx)
        except DatabaseUnavailable as error:
            if not left or error.facts["reason"] not in ("LockNotAvailable", "DeadlockDetected"):
                raise
        time.sleep(_LOCK_S)
    raise AssertionError("unreachable")


def _make_next(revision: Script, tx: Transaction) -> None:
    if current_revision(tx) == revision.down_revision:  # else another process has made it
        _make(tx, revision.revision)


def _make(tx: Transaction, to: str) -> None:
    config = _config()
    config.attributes["connection"] = tx
    command.upgrade(config, to)


def _knows(at: str) -> bool:
    return any(revision.revision == at for revision in _line())


def _lacking(tx: Transaction) -> list[str]:
    """Return the columns that we use and the database does not have."""
    schema = None if tx.dialect.name == "sqlite" else SCHEMA
    there = {
        (table, column["name"])
        for (_, table), columns in inspect(tx).get_multi_columns(schema=schema).items()
        for column in columns
    }
    ours = [(table.name, column.name) for table in metadata.sorted_tables for column in table.columns]
    return [".".join(one) for one in ours if one not in there]


@cache
def _line() -> tuple[Script, ...]:
    """Return every revision that we know, the first one first."""
    return tuple(reversed(list(ScriptDirectory.from_config(_config()).walk_revisions())))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
