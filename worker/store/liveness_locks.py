"""Locks that a process holds while it lives. The kernel releases them when it dies, however it dies.

On Postgres it is an advisory lock of the session of one connection, which the server releases as soon as the kernel has
closed that connection. On SQLite it is the lock of one byte of a file beside the database. Each process has its own
number. Behind a pooler of transactions, and for a database in memory, there are none.
"""

import fcntl
import os
import time
from contextlib import suppress
from select import POLLIN, poll
from typing import Any, Protocol

from sqlalchemy import select, text, union

from worker.addresses.database import SqliteAddress
from worker.domain.owner import lock_number
from worker.errors import DatabaseUnavailable
from worker.store.columns import db_time
from worker.store.dispatchable import running
from worker.store.engine import Database, Transaction, translated
from worker.store.tables import runs, summary_jobs

CLASS = 0x7E55  # our locks among the advisory locks of the database
# Each by an index: of runs that are executed, and of jobs whose time is to come.
_OWNERS = union(
    select(runs.c.lease_owner).where(running, runs.c.lease_owner.is_not(None)),
    select(summary_jobs.c.lease_owner).where(
        summary_jobs.c.send_at > db_time(), summary_jobs.c.lease_owner.is_not(None)
    ),
)
_HELD = text("""
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND classid = :class AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")


class LivenessLock(Protocol):
    """The lock with the number of this process. Every method can raise DatabaseUnavailable.

    `settle_s`: how long after `hold` others may need until they hold theirs, too.
    """

    settle_s: float

    def hold(self) -> None:
        """Take the lock. If it was lost, take it again."""

    def owners(self) -> dict[str, bool]:
        """Return the owners of leases whose names say that they hold a lock, and whether they do."""

    def wait(self, seconds: float) -> None:
        """Wait so long, or less if this lock was lost."""

    def close(self) -> None:
        """Release the lock."""


def of(db: Database, number: int) -> LivenessLock | None:
    """Return the lock *number* of 32 bits, which is not held yet; None: this database has none."""
    if not isinstance(db.address, SqliteAddress):
        return None if db.address.pooled else _AdvisoryLock(db.dedicated(), number)
    return None if db.address.file is None else _ByteLock(db, db.address.file, number)


class _AdvisoryLock:
    settle_s = 5.0  # a restart or a failover of the server releases the locks of all

    def __init__(self, db: Database, number: int) -> None:
        self._db = db
        self._number = number
        self._connection: Any = None

    def hold(self) -> None:
        self._disconnect()
        with translated():
            self._connection = self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            signed = self._number - 2**32 if self._number >= 2**31 else self._number
            take = text("SELECT pg_advisory_lock(:class, :number)")
            self._connection.execute(take, {"class": CLASS, "number": signed})

    def owners(self) -> dict[str, bool]:
        with translated():
            owners = _owners(self._connection)
            held = set(self._connection.execute(_HELD, {"class": CLASS}).scalars()) if owners else set()
        return {owner: number in held for owner, number in owners.items()}

    def wait(self, seconds: float) -> None:
        poller = poll()
        with suppress(Exception):  # it is closed
            poller.register(self._connection.connection.dbapi_connection.fileno(), POLLIN)
            poller.poll(seconds * 1000)
            return
        time.sleep(seconds)  # there is nothing to watch; the next look makes the lock again

    def close(self) -> None:
        self._disconnect()
        self._db.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(Exception):  # it is lost
                self._connection.invalidate()
            with suppress(Exception):  # as above
                self._connection.close()
            self._connection = None


class _ByteLock:
    settle_s = 0.0

    def __init__(self, db: Database, file: str, number: int) -> None:
        self._db = db
        self._file = f"{file}-workers"
        self._number = number
        self._descriptor = -1

    def hold(self) -> None:
        # All locks of a process are released if it closes any descriptor of the file. So there is only this one.
        self.close()
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, self._number)
        except OSError as error:
            raise DatabaseUnavailable(reason=type(error).__name__) from error

    def owners(self) -> dict[str, bool]:
        self._check_is_there()
        with self._db.read() as tx:
            owners = _owners(tx)
        return {owner: number == self._number or not self._is_free(number) for owner, number in owners.items()}

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_is_there(self) -> None:
        """Raise if another file has taken the place of this one: its locks say nothing."""
        try:
            there = os.path.samestat(os.stat(self._file), os.fstat(self._descriptor))
        except OSError as error:
            raise DatabaseUnavailable(reason=type(error).__name__) from error
        if not there:
            raise DatabaseUnavailable(reason="the file of locks was replaced")

    def _is_free(self, number: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)
        return True


def _owners(tx: Transaction) -> dict[str, int]:
    """Return the owners of leases that hold such a lock while they live, with its number."""
    names = tx.execute(_OWNERS).scalars()
    return {name: number for name in names if (number := lock_number(name)) is not None}
