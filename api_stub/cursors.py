"""How a place in a list is spelled for callers: opaque, URL-safe, and refused when it is not one of ours.

A cursor holds the name of its list and the key of the last entry that was shown. It says where to go on, and gives no
right to anything: what a key may see is asked anew for every page.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from worker.errors import InvalidCursor

K = TypeVar("K")
T = TypeVar("T")


class Cursors(Generic[K]):
    """The cursors of the list *name*, whose entries are found again by keys as *key* describes them."""

    def __init__(self, name: str, key: TypeAdapter[K]) -> None:
        self._mark = f"{name}:".encode()
        self._key = key

    def spell(self, key: K) -> str:
        """Return the cursor of the page behind the entry with this key."""
        return base64.urlsafe_b64encode(self._mark + self._key.dump_json(key)).decode().rstrip("=")

    def behind(self, found: Sequence[T], key: Callable[[T], K], *, limit: int) -> str | None:
        """Return the cursor of the page behind the first *limit* of *found*; None: there are no more of them."""
        return self.spell(key(found[limit - 1])) if len(found) > limit else None

    def read(self, cursor: str | None) -> K | None:
        """Return the key that *cursor* holds; None for the first page.

        Raises:
            InvalidCursor: it is not one that `spell` returned for this list.
        """
        if cursor is None:
            return None
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            key = self._key.validate_json(text.removeprefix(self._mark), strict=True)
        except ValueError:
            raise InvalidCursor() from None
        if self.spell(key) != cursor:  # another list's, or another spelling of ours
            raise InvalidCursor()
        return key
