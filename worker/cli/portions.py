"""Files of items, read line by line and cut into portions that the API takes at once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import click

MOST = 1_000
SIZE = 200_000  # characters of JSON; the API takes a body of 262,144 bytes, and more with what it allows for one input


@dataclass(frozen=True, slots=True)
class Portion:
    """Some items, the number of the first of them, and whether there are more behind them."""

    items: list[Any]
    first: int
    more: bool

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1


def ids(file: TextIO) -> Iterator[str]:
    """Yield the ids of a file, one a line."""
    for line in file:
        if found := line.strip():
            yield found


def requests(file: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines.

    Raises:
        click.ClickException: a line is no object.
    """
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            example = '{"custom_id": "row-1", "team": "support", "input": "Hello."}'
            raise click.ClickException(f"Line {number} of {file.name!r} is no JSON object. Expected: {example}")
        yield found


def portions(items: Iterator[Any]) -> Iterator[Portion]:
    """Cut items into portions; an item that is too large for one is a portion of its own."""
    first, size = 1, 0
    held: list[Any] = []
    for item in items:
        length = len(json.dumps(item)) + 2
        if held and (len(held) == MOST or size + length > SIZE):
            yield Portion(held, first, more=True)
            first, size, held = first + len(held), 0, []
        held.append(item)
        size += length
    if held:
        yield Portion(held, first, more=False)
