"""How paths, queries, bodies, keys and times are spelled in a request."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from api_stub.client.core import KEY

PAGE = 200  # the most that the API gives at once
CONTROL = re.compile("[\x00-\x1f\x7f]")


def path_of(*parts: str) -> str:
    """Return the path of a thing. Ids are what their owners chose: '/', '?', and '..' too."""
    if not all(parts):
        raise ValueError("An id is empty. Expected 1 to 255 characters.")
    return "/v1/" + "/".join(quote(part, safe="").replace(".", "%2E") for part in parts)


def with_key(value: str | None) -> dict[str, str]:
    """Return the header that makes a request safe to repeat, under a key of the caller's or a new one."""
    key = uuid.uuid4().hex if value is None else value
    if not key.strip() or key != key.strip() or CONTROL.search(key):
        raise ValueError("idempotency_key is empty, begins or ends with a space, or holds a control character.")
    return {KEY: key}


def query_of(**fields: str | None) -> dict[str, str]:
    """Return the fields of a query that are given."""
    return {name: value for name, value in fields.items() if value is not None}


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields of a body that are given."""
    return {name: value for name, value in fields.items() if value is not None}


def time_of(at: datetime) -> str:
    """Return a time as RFC 3339 spells it."""
    if at.tzinfo is None:
        raise ValueError(f"The time {at} has no zone. Pass one, such as datetime.now(UTC).")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
