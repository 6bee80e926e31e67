"""Limits of how many runs may be queued: of a user, and in all.

Each is counted once a second at most, by one thread; in between, the runs that this process accepts are added. So
accepting a run costs the same for every length of the queue. Several API processes together may exceed a limit by what
they accept within that second.
"""

import threading

from worker import clock
from worker.errors import QueueFull
from worker.settings import Settings
from worker.store import Database, idempotency, runs

COUNT_S = 1.0
USERS_KEPT = 10_000


class QueueLimits:
    """The numbers of queued runs, as this process last counted them."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._per_user = settings.max_queued_per_user
        self._in_all = settings.max_queued
        self._counted: dict[str | None, tuple[float, int]] = {}  # by user; None: of all
        self._lock = threading.Lock()

    def check(self, user_id: str, *, idempotency_key: str | None = None) -> None:
        """Raise QueueFull if no more run of a user fits. A repeated key passes: it finds the run of the first call."""
        if (full := self._full(user_id)) is not None:
            if idempotency_key is None or not self._is_taken(user_id, idempotency_key):
                raise full
            return
        with self._lock:
            for key in (None, user_id):
                if key in self._counted:
                    counted_at, count = self._counted[key]
                    self._counted[key] = (counted_at, count + 1)

    def _full(self, user_id: str) -> QueueFull | None:
        if self._count(None, limit=self._in_all) >= self._in_all:
            return QueueFull(whose="The installation", limit=self._in_all, setting="TEAM_SESSIONS_MAX_QUEUED")
        if user_id and self._count(user_id, limit=self._per_user) >= self._per_user:  # '' is no particular user
            return QueueFull(whose="The user", limit=self._per_user, setting="TEAM_SESSIONS_MAX_QUEUED_PER_USER")
        return None

    def _is_taken(self, user_id: str, key: str) -> bool:
        with self._db.read() as tx:
            return idempotency.is_taken(tx, user_id=user_id, key=key)

    def _count(self, user_id: str | None, *, limit: int) -> int:
        with self._lock:
            known, now = self._counted.get(user_id), clock.monotonic()
            if known is not None:
                if now - known[0] < COUNT_S:
                    return known[1]
                self._counted[user_id] = (now, known[1])  # others use it while this thread counts
        with self._db.read() as tx:
            count = runs.count_queued(tx, user_id=user_id, limit=limit)
        with self._lock:
            if len(self._counted) > USERS_KEPT:
                self._counted.clear()
            self._counted[user_id] = (clock.monotonic(), count)
        return count
