"""Bring a database to the schema of this version, or say why the two do not fit.

Migrations are Alembic revisions in `migrations/versions`, in one line. A change that removes something comes in two
halves, so that processes of the version before keep working. The half that adds is applied before the deploy. The half
that removes is a revision of its own with `removes = True`, applied when no process of an older version is left.

A revision can have `backfill(tx, after)`, called before its `upgrade()`: it does one bounded piece after the key
*after* (None: the first piece), and returns the last key that it did, or None at the end. Each piece is a transaction
of its own. Repeating a piece is harmless: a backfill that was stopped starts again from the beginning.
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

from worker.errors import DatabaseUnavailable, SchemaOutdated
from worker.store.engine import Database, Transaction
from worker.store.tables import SCHEMA, metadata

_LOCK = 7_238_146_090_155_202_518  # any number, the same in every process
_LOCK_S, _TRIES = 1, 30  # wait this long for a table's lock, because everyone else queues behind us; then try again
# Revisions of versions that were never released: "0009" is the first one here.
_UNRELEASED = frozenset({"0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008"})
_BEFORE_RELEASE = (
    "it is at revision {at!r} of an unreleased version. Upgrade it with commit 8bc9431, or use a new database."
)
T = TypeVar("T")


def upgrade(
    db: Database, *, to: str = "head", removing: bool = True, on_piece: Callable[[str], None] = lambda _: None
) -> None:
    """Apply the missing revisions, each in one transaction. Two processes at once apply each revision once.

    Without *removing*, stop before the first revision that removes something. An empty database is filled in one
    transaction. A database of a newer version stays as it is. *on_piece* is called with the revision after each piece
    of a backfill.

    Raises:
        DatabaseUnavailable: it cannot be reached, or a lock was not free; the revisions that were applied stay.
        SchemaOutdated: it is at a revision of an unreleased version.
    """
    at = _begin(db, to)
    if at in _UNRELEASED:
        raise SchemaOutdated(misfit=_BEFORE_RELEASE.format(at=at))
    for revision in missing(at):
        if at == to or (removes(revision) and not removing):
            return
        _fill(db, revision, on_piece)
        _locked(db, partial(_apply_next, revision))
        at = revision.revision


def misfit(db: Database) -> str | None:
    """Return why this version of the code cannot use the database, and what to do; None: it can.

    The code needs every revision that adds. A newer database is fine as long as it has every column of `tables.py`.
    """
    with db.read() as tx:
        at = current_revision(tx)
        if at in _UNRELEASED:
            return _BEFORE_RELEASE.format(at=at)
        is_known = at is None or any(revision.revision == at for revision in _revisions())
        lacking = [] if is_known else _missing_columns(tx)
    if lacking:
        return f"a newer version has removed {', '.join(lacking)} (revision {at!r}). Install that version again."
    later = missing(at)
    needed = [revision.revision for revision in later if not removes(revision)]
    if not needed:
        return None
    problem = f"it is {'empty' if at is None else f'at revision {at!r}'} and needs {needed[-1]!r}."
    if at is None or not removes(later[0]):
        return f"{problem} Run 'team-sessions db upgrade' first."
    return f"{problem} {later[0].revision!r} has to be applied before: see 'team-sessions db upgrade --help'."


def missing(at: str | None) -> Sequence[Script]:
    """Return the revisions after *at*, in order; none after an unknown one: it belongs to a newer version."""
    revisions = _revisions()
    ids = [None, *(revision.revision for revision in revisions)]
    return revisions[ids.index(at) :] if at in ids else ()


def removes(revision: Script) -> bool:
    """Tell whether a revision removes what processes of older versions use."""
    return bool(getattr(revision.module, "removes", False))


def current_revision(tx: Connection) -> str | None:
    """Return the revision that the database is at; None: it is empty."""
    return MigrationContext.configure(tx, opts=version_table(tx)).get_current_revision()


def version_table(tx: Connection) -> dict[str, Any]:
    """Return where Alembic keeps the revision: in the schema of our tables."""
    return {
        "version_table": "schema_version",
        "version_table_schema": None if tx.dialect.name == "sqlite" else SCHEMA,
    }


def _begin(db: Database, to: str) -> str | None:
    """Bring an empty database to *to*; return the revision that the database is at."""

    def begin(tx: Transaction) -> str | None:
        if current_revision(tx) is None:
            if not db.is_sqlite and not inspect(tx).has_schema(SCHEMA):  # creating it needs a right on the database
                tx.execute(text(f"CREATE SCHEMA {SCHEMA}"))
            _apply(tx, to)
        return current_revision(tx)

    return _locked(db, begin)


def _fill(db: Database, revision: Script, on_piece: Callable[[str], None]) -> None:
    """Run a revision's backfill, piece by piece, if it has one."""
    backfill: Callable[[Transaction, Any], Any] | None = getattr(revision.module, "backfill", None)
    after = None
    while backfill is not None:
        with db.write() as tx:
            after = backfill(tx, after)
        on_piece(revision.revision)
        if after is None:
            return


def _locked(db: Database, work: Callable[[Transaction], T]) -> T:
    """Do *work* in a transaction while no other process migrates; try again where a lock is not free in time."""
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


def _apply_next(revision: Script, tx: Transaction) -> None:
    if current_revision(tx) == revision.down_revision:  # otherwise another process has applied it
        _apply(tx, revision.revision)


def _apply(tx: Transaction, to: str) -> None:
    config = _config()
    config.attributes["connection"] = tx
    command.upgrade(config, to)


def _missing_columns(tx: Transaction) -> list[str]:
    """Return the columns of `tables.py` that the database does not have."""
    schema = None if tx.dialect.name == "sqlite" else SCHEMA
    existing = {
        f"{table}.{column['name']}"
        for (_, table), columns in inspect(tx).get_multi_columns(schema=schema).items()
        for column in columns
    }
    needed = [f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns]
    return [name for name in needed if name not in existing]


@cache
def _revisions() -> tuple[Script, ...]:
    """Return every revision of this version, oldest first."""
    return tuple(reversed(list(ScriptDirectory.from_config(_config()).walk_revisions())))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
