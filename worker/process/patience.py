"""Keep what a living process holds while the database is away, and write it once the database answers.

A paid reply or the result of a tool must not be lost because the database restarts, refuses writes or holds a lock. So
a transaction that failed is tried again; its fence check decides whether it still may write. A COMMIT whose answer was
lost may have happened: it is looked up in the rows before it is repeated. See decision 25.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from worker import clock
from worker.domain import Stop
from worker.errors import DatabaseUnavailable
from worker.observe import logs
from worker.store import Database, Transaction

FIRST_S, LONGEST_S = 0.05, 1.0  # between two tries
LEAST_S = 180.0  # an outage of this length throws nothing away, however little time a run has left
T = TypeVar("T")

log = logs.get(__name__)


class Patience:
    """Transactions that are tried again while the database is unavailable, until *give_up* returns true.

    *give_up* gets the seconds since the first failure. *between* is called in a transaction of its own between two
    tries: a write that waits for the lock of a table locks its own rows, so only then can the lease be renewed.
    """

    def __init__(
        self,
        db: Database,
        give_up: Callable[[float], bool],
        *,
        between: Callable[[Transaction], object] | None = None,
    ) -> None:
        self._db = db
        self._give_up = give_up
        self._between = between

    def write(self, write: Callable[[Transaction], T], *, committed: Callable[[Transaction, T], bool]) -> T:
        """Commit what *write* does, once, and return its result.

        If a try failed at its COMMIT, the next one first asks *committed*, with that try's result. It takes the lock
        that *write* takes first, so the earlier transaction has ended, and tells from the rows how.

        Raises:
            DatabaseUnavailable: this gave up; whether anything is written is not known.
        """
        unknown: list[T] = []  # the result of a try whose COMMIT may have happened

        def attempt() -> T:
            with self._db.write() as tx:
                if unknown and committed(tx, unknown[0]):
                    return unknown[0]
                unknown.clear()
                result = write(tx)
                unknown.append(result)
            return result

        return self.again(attempt)

    def again(self, attempt: Callable[[], T]) -> T:
        """Return what *attempt* returns. It can be called again, since it reads only.

        Raises:
            DatabaseUnavailable: this gave up.
        """
        failed_at, wait_s = None, FIRST_S
        while True:
            try:
                return attempt()
            except DatabaseUnavailable as error:
                if failed_at is None:
                    failed_at = clock.monotonic()
                    log.warning("database unavailable; trying again", error=error)
                if self._give_up(clock.monotonic() - failed_at):
                    raise
            if self._between is not None:
                with suppress(DatabaseUnavailable), self._db.write() as tx:
                    self._between(tx)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_S)


def at_once(_failing_s: float) -> bool:
    """Give up at the first failure."""
    return True


def of_attempt(
    db: Database, stop: Stop, *, left_s: float, between: Callable[[Transaction], object] | None = None
) -> Patience:
    """Return the patience of an attempt that may take *left_s* seconds: for so long, or `LEAST_S`; less if it leaves.

    Neither a cancel nor the end of its time ends it before: what the attempt holds is written, then it ends. A lost
    lease does not either: only the fence knows, since the rows look the same after a COMMIT whose answer was lost.
    """
    until = clock.monotonic() + left_s
    return Patience(
        db, lambda failing_s: stop.leaving or (failing_s > LEAST_S and clock.monotonic() > until), between=between
    )
