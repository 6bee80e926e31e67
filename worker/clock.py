"""Which time it is in this process.

Only for what one process measures about itself (deadlines, batches of deltas, ids). Whatever two processes compare, a
lease above all, is read from the database's clock: `store/columns.py`, `db_time`.
"""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the host's time, in UTC."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """Return *time* as every program outside sees it: in UTC, with six decimals and a Z."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def monotonic() -> float:
    """Return seconds on a clock that never goes back, for measuring durations."""
    return time.monotonic()
