"""How long this process has reached the database without a break.

A lease that ran out while the database was away says nothing about its owner, who could not renew it. So after a break,
a process takes over no expired lease until living owners have had the time to renew theirs. A pause of the process
itself is a break, too: it may have been stopped while it held the lock that the owners waited for. See decision 25.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from worker import clock
from worker.errors import DatabaseUnavailable


class Contact:
    """The contact of one process with its database. Before `begin` it counts as old."""

    def __init__(self, *, ttl_s: float) -> None:
        self._enough_s = ttl_s * 2 / 3  # owners renew every third of it: even one that misses a turn has renewed then
        self._slow_s = max(ttl_s / 3, 2.0)  # leases that run out in a shorter break were nearly over before
        self._since: float | None = float("-inf")
        self._trying_since: float | None = None
        self._ran_at: float | None = None  # when `pulse` was called last

    def begin(self) -> None:
        """Count from now on: before, this process does not know. From now on `pulse` has to be called every second."""
        self._since = self._ran_at = clock.monotonic()

    def pulse(self) -> None:
        """Note that this process runs. If it has not run for a while, that was a break."""
        now = clock.monotonic()
        if self._has_paused(now):
            self._since = None
        self._ran_at = now

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Observe the transaction in the block, one every second or so: a failure or a long wait is a break.

        One of them must write every few seconds: on a full disk, a transaction that changes nothing succeeds.
        """
        begun = self._trying_since = clock.monotonic()
        try:
            yield
        except DatabaseUnavailable:
            self._since = None
            raise
        finally:
            self._trying_since = None
        now = clock.monotonic()
        if self._since is None or now - begun > self._slow_s:
            self._since = now

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Take a failure of the transaction in the block for a break. It says nothing else: `observed` does."""
        try:
            yield
        except DatabaseUnavailable:
            self._since = None
            raise

    def is_old(self) -> bool:
        """Tell whether the contact lasts long enough to take over a lease that ran out."""
        since, trying_since, now = self._since, self._trying_since, clock.monotonic()
        waits = trying_since is not None and now - trying_since > self._slow_s
        return since is not None and now - since >= self._enough_s and not waits and not self._has_paused(now)

    def _has_paused(self, now: float) -> bool:
        return self._ran_at is not None and now - self._ran_at > self._slow_s
