"""Ids that we make: sortable by time, so that an index grows at its end.

48 bits of Unix milliseconds, then 80 random bits, in 32 hexadecimal digits.
Source: the layout of UUID version 7, RFC 9562 §5.7, without its version bits.
"""

import secrets

from worker import clock


def new_id(prefix: str) -> str:
    """Return a new id such as 'run_019ab3…'."""
    return f"{prefix}_{int(clock.now().timestamp() * 1000):012x}{secrets.token_hex(10)}"
