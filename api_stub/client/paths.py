"""Paths, queries and lists of the API, for the requests of the client."""

from typing import Any, TypeVar
from urllib.parse import quote

from api_stub.client.core import Listing, Request

PAGE = 200  # the largest page that the API returns
T = TypeVar("T")


def path_of(*parts: str) -> str:
    """Return the path of a resource. Ids are chosen by users, and may hold '/' or '?', or be '..'."""
    if not all(parts):
        raise ValueError("An id is empty. Expected 1 to 255 characters.")
    return "/v1/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def not_none(**fields: T | None) -> dict[str, T]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def listing(*parts: str, **query: str | None) -> Listing[Any]:
    """Return the list at a path, in pages."""
    return Listing(Request("GET", path_of(*parts), {**not_none(**query), "limit": str(PAGE)}))
