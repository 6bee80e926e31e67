"""Tables for people: columns as wide as their widest cell.

On a terminal cells are cut where a line would not fit, except for ids: people copy them into the next command.
Elsewhere nothing is cut.
"""

import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice

import click

PAGE = 200
NARROW = 6  # a column is not cut below this width


def print_table(rows: Sequence[Sequence[str]], *, least: Sequence[int] = (), whole: Collection[int] = ()) -> list[int]:
    """Print rows of equal length, each column at least as wide as *least* says; return the widths.

    On a terminal cells are cut so that a line fits; those of the columns *whole* never are.
    """
    widths = _widths(rows)
    widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
    if sys.stdout.isatty():
        widths = fitted(widths, shutil.get_terminal_size().columns, whole=whole)
    for row in rows:
        click.echo(format_row(row, widths))
    return widths


def print_pages(head: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Collection[int] = ()) -> None:
    """Print a table of any length, some rows at a time; later rows may need wider columns."""
    widths: list[int] = []
    lines: Iterator[Sequence[str]] = chain([head], rows)
    while page := list(islice(lines, PAGE)):
        widths = print_table(page, least=widths, whole=whole)


def format_fields(fields: Mapping[str, object]) -> str:
    """Return the fields that are not empty, one a line: name and value."""
    rows = [(name.replace("_", " "), str(value)) for name, value in fields.items() if value]
    return "\n".join(format_row(row, _widths(rows)) for row in rows)


def fitted(widths: Sequence[int], width: int, *, whole: Collection[int]) -> list[int]:
    """Return *widths* with the widest columns narrowed until a line of *width* holds them, as far as that can be."""
    narrowed = list(widths)
    columns = [n for n in range(len(narrowed)) if n not in whole]
    while sum(narrowed) + 2 * (len(narrowed) - 1) > width:
        widest = max(columns, key=lambda column: narrowed[column], default=None)
        if widest is None or narrowed[widest] <= NARROW:
            break
        narrowed[widest] -= 1
    return narrowed


def age(time: str, *, now: datetime) -> str:
    """Return how long ago *time* (RFC 3339) was, in its largest unit: '5m'."""
    seconds = max(0, int((now - datetime.fromisoformat(time)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def format_row(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return one line of a table; a cell that is wider than its column is cut."""
    return "  ".join(_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cut(cell: str, width: int) -> str:
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in cell)
    return text if len(text) <= width else text[: width - 1] + "…"
