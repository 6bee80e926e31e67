"""Cursors: what was given out is read again, and nothing else is."""

import base64
import re
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import AwareDatetime, Field, TypeAdapter

from api_stub.cursors import Cursors
from worker.errors import InvalidCursor

NUMBERS: Cursors[int] = Cursors("numbers", TypeAdapter(Annotated[int, Field(ge=1, lt=2**31)]))
PLACES: Cursors[tuple[datetime, int]] = Cursors("places", TypeAdapter(tuple[AwareDatetime, int]))


def spelled(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("number", [1, 77, 2**31 - 1])
def test_a_cursor_is_read_as_it_was_spelled(number: int) -> None:
    """It holds the key to the last digit, and nothing that a URL would have to escape."""
    place = (datetime(2026, 1, 2, 3, 4, 5, number % 1_000_000, tzinfo=UTC), number)

    cursors = NUMBERS.spell(number), PLACES.spell(place)

    assert (NUMBERS.read(cursors[0]), PLACES.read(cursors[1])) == (number, place)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", cursor) for cursor in cursors)
    assert NUMBERS.read(None) is PLACES.read(None) is None


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "abc", "é", "\0", "\ud800", "=" * 8, "a" * 100_000, NUMBERS.spell(7) + "=", NUMBERS.spell(7) + "\n"),
        *map(spelled, ["", "7", "numbers", "numbers:", "numbers:0", "numbers:-1", "numbers:2147483648", "numbers:7.0"]),
        *map(spelled, ['numbers:"7"', "numbers:07", "numbers: 7", "numbers:null", "numbers:[7]", "letters:7"]),
        *map(spelled, ["numbers:" + "9" * 5000, "numbers:1e3", "numbers:" + "[" * 5000]),
        PLACES.spell((datetime(2026, 1, 1, tzinfo=UTC), 7)),
    ],
)
def test_what_was_not_given_out_is_refused(cursor: str) -> None:
    """Another list's cursor, another spelling, another type, a number that no database takes."""
    with pytest.raises(InvalidCursor):
        NUMBERS.read(cursor)


@pytest.mark.parametrize("key", ['["2026-01-01T00:00:00",7]', '["now",7]', "[7,7]", '["2026-01-01T00:00:00Z"]'])
def test_a_key_of_several_parts_is_taken_whole_only(key: str) -> None:
    """A time has its zone, and no part may be missing."""
    with pytest.raises(InvalidCursor):
        PLACES.read(spelled(f"places:{key}"))
