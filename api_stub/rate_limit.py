"""A limit of requests a minute for each key: a token bucket per key in each API process."""

import threading

from worker import clock
from worker.errors import RateLimited

KEYS_KEPT = 10_000


class RateLimiter:
    """The buckets of one process. *per_minute* None: no limit."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # time of the last request, tokens after it
        self._lock = threading.Lock()

    def take(self, key_id: str) -> None:
        """Take one token from the bucket of a key.

        Raises:
            RateLimited: the bucket is empty; nothing is taken.
        """
        if self._per_minute is None:
            return
        now = clock.monotonic()
        with self._lock:
            taken_at, tokens = self._buckets.get(key_id, (now, float(self._per_minute)))
            tokens = min(self._per_minute, tokens + (now - taken_at) * self._per_minute / 60)
            if len(self._buckets) > KEYS_KEPT:
                self._buckets.clear()
            self._buckets[key_id] = (now, tokens - 1 if tokens >= 1 else tokens)
        if tokens < 1:
            raise RateLimited(limit=self._per_minute, wait_s=(1 - tokens) * 60 / self._per_minute)
