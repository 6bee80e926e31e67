"""Whether this process reaches its database now. While it does not, it takes no deliveries: others could.

The keeper observes it, which reads twice a second on a connection of its own. See decision 31.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from worker import clock
from worker.errors import DatabaseUnavailable
from worker.observe import logs

SILENT_S = 4.0  # a database that has not answered a short read for so long counts as away

log = logs.get(__name__)


class Reach:
    """The time of the database's last answer, and whether it failed since."""

    def __init__(self) -> None:
        self._answered_at = clock.monotonic()
        self._failed = False

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Observe the reads in the block."""
        try:
            yield
        except DatabaseUnavailable:
            if not self._failed:
                log.warning("database cannot be reached; taking no deliveries until it answers")
            self._failed = True
            raise
        if self._failed:
            log.info("database answers; taking deliveries again")
        self._failed = False
        self._answered_at = clock.monotonic()

    def is_lost(self) -> bool:
        """Tell whether the last read failed, or the next one takes too long."""
        return self._failed or clock.monotonic() - self._answered_at > SILENT_S
