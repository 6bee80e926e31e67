"""Files of items, read line by line and split into chunks that fit into one request."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import click

MAX_ITEMS = 1_000
MAX_CHARS = (
    200_000  # characters of JSON; the API takes a body of 262,144 bytes, and more with what it allows for one input
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items, the number of the first one, and whether more follow."""

    items: list[Any]
    first: int
    more: bool

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1


def read_ids(file: TextIO) -> Iterator[str]:
    """Yield the ids of a file, one per line."""
    for line in file:
        if id := line.strip():
            yield id


def read_requests(file: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines.

    Raises:
        click.ClickException: a line is not a JSON object.
    """
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            example = '{"custom_id": "row-1", "team": "support", "input": "Hello."}'
            raise click.ClickException(f"Line {number} of {file.name!r} is not a JSON object. Expected: {example}")
        yield value


def split(items: Iterator[Any]) -> Iterator[Chunk]:
    """Split items into chunks. An item that is too large for a chunk is sent alone."""
    first, size = 1, 0
    held: list[Any] = []
    for item in items:
        length = len(json.dumps(item)) + 2
        if held and (len(held) == MAX_ITEMS or size + length > MAX_CHARS):
            yield Chunk(held, first, more=True)
            first, size, held = first + len(held), 0, []
        held.append(item)
        size += length
    if held:
        yield Chunk(held, first, more=False)
