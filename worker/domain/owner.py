"""The name of a process in the rows that it leases: its host, its process id, and 32 random bits.

If it holds a liveness lock, which has these bits for a number (`store/liveness_locks.py`), the name ends with a letter
that says so. Other processes are not judged by such a lock: scripts, and those of earlier versions.
"""

import os
import re
import socket

_LOCKED = "L"


def owner_name(number: int, *, locked: bool) -> str:
    """Return the name of this process; *number* has 32 bits."""
    return f"{socket.gethostname()[:64]}:{os.getpid()}:{number:08x}{_LOCKED if locked else ''}"


def lock_number(owner: str) -> int | None:
    """Return the number of the lock that *owner* holds while it lives; None: it has none."""
    found = re.search(f":([0-9a-f]{{8}}){_LOCKED}$", owner)
    return None if found is None else int(found[1], 16)
