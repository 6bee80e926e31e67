"""How often a key may ask: a bucket of so many requests that fills evenly, one for each key in each API process."""

import threading

from worker import clock
from worker.errors import RateLimited

KEYS_KEPT = 10_000


class RateLimiter:
    """The buckets of one process. *per_minute* None: nobody is limited."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # when it was last looked at, and what was in it
        self._lock = threading.Lock()

    def take(self, key_id: str) -> None:
        """Take one request out of a key's bucket.

        Raises:
            RateLimited: it is empty; nothing is taken.
        """
        if self._per_minute is None:
            return
        now = clock.monotonic()
        with self._lock:
            looked_at, left = self._buckets.get(key_id, (now, float(self._per_minute)))
            left = min(self._per_minute, left + (now - looked_at) * self._per_minute / 60)
            if len(self._buckets) > KEYS_KEPT:
                self._buckets.clear()
            self._buckets[key_id] = (now, left - 1 if left >= 1 else left)
        if left < 1:
            raise RateLimited(limit=self._per_minute, wait_s=(1 - left) * 60 / self._per_minute)
