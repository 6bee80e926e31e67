"""Pages of lists and their cursors, which are opaque, URL-safe, and refused when this API did not make them.

A cursor holds the name of its list and the key of the last entry of a page. It grants nothing: what a key may see is
checked again for every page.
"""

import base64
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import TypeAdapter

from worker.errors import InvalidCursor
from worker.store import Page

Cursor = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the previous page, with the same filters; if omitted, the first page.",
        examples=["cnVuczoi…"],
    ),
]
Limit = Annotated[
    int, Query(ge=1, le=200, description="Entries in a page, at most; fewer if they are large.", examples=[50])
]

K = TypeVar("K")
T = TypeVar("T")


class Pages(Generic[T, K]):
    """The pages of the list *name*. *key* returns the key of an entry, which is of the type *key_type*."""

    def __init__(self, name: str, key_type: Any, key: Callable[[T], K]) -> None:
        self._prefix = f"{name}:".encode()
        self._adapter: TypeAdapter[K] = TypeAdapter(key_type)
        self._key = key

    def next_cursor(self, page: Page[T]) -> str | None:
        """Return the cursor of the next page; None: there are no more rows."""
        return self.encode(self._key(page[-1])) if page and page.more else None

    def encode(self, key: K) -> str:
        """Return the cursor of the page after the entry with this key."""
        return base64.urlsafe_b64encode(self._prefix + self._adapter.dump_json(key)).decode().rstrip("=")

    def decode(self, cursor: str | None) -> K | None:
        """Return the key in *cursor*; None for the first page.

        Raises:
            InvalidCursor: `encode` did not return it for this list.
        """
        if cursor is None:
            return None
        try:
            text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            key = self._adapter.validate_json(text.removeprefix(self._prefix), strict=True)
        except ValueError:
            raise InvalidCursor() from None
        if self.encode(key) != cursor:  # of another list, or encoded in another way
            raise InvalidCursor()
        return key
