"""The clock of this process.

Only for what one process measures itself (deadlines, batches of deltas, ids). Times that two processes compare, above
all leases, are read from the database's clock: `store/columns.py`, `db_time`.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the host's time, in UTC."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """Return *time* in the format of the API: UTC, six decimals, a Z."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def monotonic() -> float:
    """Return seconds of a clock that never goes back, to measure durations."""
    return time.monotonic()
