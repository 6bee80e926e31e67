"""Let the runs of a killed process go on within a second, not when their leases have run out.

Each worker holds a lock that the kernel releases when it dies (`store/liveness_locks.py`). The others look several
times a second. If the owner of a lease does not hold its lock at three looks in a row, its leases end, and a sweep
follows at once. A host that is lost releases no lock, and a stopped process holds its own: there the leases run out.

The fence decides every write, as before. A process that lives, and has lost the lock with its connection, loses its
runs: a model call in flight is made again. A restart or failover of the database releases all locks. So in the first
seconds of a connection, leases end only of owners that were seen with their locks through it. See decision 38.
"""

import secrets
import threading
from collections.abc import Callable

from worker import clock
from worker.domain.owner import owner_name
from worker.errors import DatabaseUnavailable
from worker.observe import logs, metrics
from worker.store import Database, leases, liveness_locks, summary_jobs

LOOK_S = 0.2
LOOKS = 3  # a process that lost its connection takes its lock again in between

log = logs.get(__name__)


class Liveness:
    """The liveness lock of this process, and the thread that looks for the locks of others.

    `owner`: the name of the process in the rows. `is_held`: whether its leases are safe; before `start` they are.
    """

    def __init__(self, db: Database) -> None:
        """Take the lock. If that is not possible, the process has none, and its leases end only when they run out."""
        self._db = db
        self._seen: set[str] = set()  # owners seen with their locks since this process took its own
        self._missing: dict[str, int] = {}  # at how many looks in a row
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._held_since = float("-inf")
        number = secrets.randbits(32)
        self._lock = liveness_locks.of(db, number)
        self.is_held = True
        try:
            if self._lock is not None:
                self._lock.hold()
        except DatabaseUnavailable as error:
            log.warning("no liveness lock: if this worker is killed, its runs wait for their leases", error=error)
            self._lock = None
        self.owner = owner_name(number, locked=self._lock is not None)

    def start(self, on_ended: Callable[[], object]) -> None:
        """Look from now on. *on_ended* is called after leases were ended."""
        if self._lock is None:
            return
        self._held_since = clock.monotonic()
        self._thread = threading.Thread(target=self._run, args=(self._lock, on_ended), name="liveness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Release the lock. The process has no lease any more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self._lock is not None:
            self._lock.close()

    def _run(self, lock: liveness_locks.LivenessLock, on_ended: Callable[[], object]) -> None:
        while not self._closing.is_set():
            lock.wait(LOOK_S)
            try:
                if self._look(lock):
                    on_ended()
            except DatabaseUnavailable as error:
                log.warning("liveness lock lost; taking it again", error=error)
                self._hold_again(lock)
            except Exception as error:  # noqa: BLE001 - one failure must not end the thread
                log.warning("could not look for lost workers; trying again", error=error)
                self._closing.wait(LOOK_S)

    def _hold_again(self, lock: liveness_locks.LivenessLock) -> None:
        """Take the lock again: at once, since others look, and then until it is held."""
        self.is_held = False
        self._missing.clear()
        self._seen.clear()
        while not self._closing.is_set():
            try:
                lock.hold()
            except DatabaseUnavailable:
                self._closing.wait(LOOK_S)
                continue
            self.is_held, self._held_since = True, clock.monotonic()
            log.info("liveness lock taken again")
            return

    def _look(self, lock: liveness_locks.LivenessLock) -> bool:
        """End the leases of lost owners; tell whether there were any."""
        owners = lock.owners()
        self._seen = {owner for owner, holds in owners.items() if holds or owner in self._seen}
        if clock.monotonic() - self._held_since < lock.settle_s:
            owners = {owner: holds for owner, holds in owners.items() if owner in self._seen}
        self._missing = {owner: self._missing.get(owner, 0) + 1 for owner, holds in owners.items() if not holds}
        lost = {owner for owner, looks in self._missing.items() if looks >= LOOKS}
        if not lost:
            return False
        try:
            with self._db.write() as tx:
                ended = [*leases.end(tx, lost), *summary_jobs.end(tx, lost)]
        except DatabaseUnavailable:  # it takes no writes; the lock is still held, and the next look tries again
            return False
        if ended:
            metrics.LEASES_ENDED.inc(len(ended))
            log.warning("lost workers: their leases are ended", workers=", ".join(sorted(lost)), leases=len(ended))
        return bool(ended)
