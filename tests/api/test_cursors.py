"""Cursors: what was given out is read again, and nothing else is."""

import base64
import re
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import AwareDatetime, Field

from api_stub.pagination import Pages
from worker.errors import InvalidCursor

NUMBERS = Pages[int, int]("numbers", Annotated[int, Field(ge=1, lt=2**31)], lambda number: number)
TIMES = Pages[tuple[datetime, int], tuple[datetime, int]]("times", tuple[AwareDatetime, int], lambda row: row)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("number", [1, 77, 2**31 - 1])
def test_a_cursor_is_decoded_to_its_key(number: int) -> None:
    """It holds the key to the last digit, and nothing that a URL would have to escape."""
    row = (datetime(2026, 1, 2, 3, 4, 5, number % 1_000_000, tzinfo=UTC), number)

    cursors = NUMBERS.encode(number), TIMES.encode(row)

    assert (NUMBERS.decode(cursors[0]), TIMES.decode(cursors[1])) == (number, row)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", cursor) for cursor in cursors)
    assert NUMBERS.decode(None) is TIMES.decode(None) is None


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "abc", "é", "\0", "\ud800", "=" * 8, "a" * 100_000, NUMBERS.encode(7) + "=", NUMBERS.encode(7) + "\n"),
        *map(encoded, ["", "7", "numbers", "numbers:", "numbers:0", "numbers:-1", "numbers:2147483648", "numbers:7.0"]),
        *map(encoded, ['numbers:"7"', "numbers:07", "numbers: 7", "numbers:null", "numbers:[7]", "letters:7"]),
        *map(encoded, ["numbers:" + "9" * 5000, "numbers:1e3", "numbers:" + "[" * 5000]),
        TIMES.encode((datetime(2026, 1, 1, tzinfo=UTC), 7)),
    ],
)
def test_what_was_not_given_out_is_refused(cursor: str) -> None:
    """Another list's cursor, another spelling, another type, a number that no database takes."""
    with pytest.raises(InvalidCursor):
        NUMBERS.decode(cursor)


@pytest.mark.parametrize("key", ['["2026-01-01T00:00:00",7]', '["now",7]', "[7,7]", '["2026-01-01T00:00:00Z"]'])
def test_a_key_of_several_parts_is_taken_whole_only(key: str) -> None:
    """A time has its zone, and no part may be missing."""
    with pytest.raises(InvalidCursor):
        TIMES.decode(encoded(f"times:{key}"))
