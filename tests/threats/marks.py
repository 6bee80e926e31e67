"""Marks: random words that stand where a user's text would, and how they could be spelled where they must not stand."""

import base64
import hashlib
import re
import secrets

MARK = re.compile("Mk[0-9a-f]{24}")


def new_mark() -> str:
    """Return a mark that stands nowhere yet."""
    return f"Mk{secrets.token_hex(12)}"


def derived(mark: str, what: str) -> str:
    """Return the mark that a tool or a model makes of another: it was never sent to the product."""
    return f"Mk{hashlib.sha256(f'{mark} {what}'.encode()).hexdigest()[:24]}"


def spellings(mark: str) -> list[bytes]:
    """Return what of a mark would be found: as it is, and inside Base64 at each of the three places of a group."""
    found = [mark.encode(), mark.encode("utf-16-le"), mark.encode().hex().encode()]
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + mark.encode())
        found.append(whole[4:-4])  # what no neighbour changes
    return found


def stands_in(data: bytes, mark: str) -> bool:
    """Tell whether a mark can be read out of *data*."""
    return any(spelled in data for spelled in spellings(mark))
