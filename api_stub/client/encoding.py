"""How paths, fields, keys and times are written in a request."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from api_stub.client.core import KEY, Listing, Request

PAGE = 200  # the largest page that the API returns
CONTROL = re.compile("[\x00-\x1f\x7f]")
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


def with_key(value: str | None) -> dict[str, str]:
    """Return the header that makes a request safe to repeat, with the caller's key or a new one."""
    key = uuid.uuid4().hex if value is None else value
    if not key.strip() or key != key.strip() or CONTROL.search(key):
        raise ValueError("idempotency_key is empty, begins or ends with a space, or holds a control character.")
    return {KEY: key}


def format_time(at: datetime) -> str:
    """Return a time in RFC 3339."""
    if at.tzinfo is None:
        raise ValueError(f"The time {at} has no zone. Pass one, such as datetime.now(UTC).")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
