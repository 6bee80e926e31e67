"""Tables for people: columns as wide as their widest cell, or narrower, so that a line fits the terminal."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice

import click

PAGE = 200
NARROW = 6  # a column is not cut to less


def print_table(
    rows: Sequence[Sequence[str]],
    *,
    least: Sequence[int] = (),
    width: int | None = None,
    whole: Collection[int] = (),
) -> list[int]:
    """Print rows of equal length, each column at least as wide as *least* says; return how wide each was.

    With a *width*, cells are cut so that a line has it at most; those of the columns *whole* last of all.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
    if width is not None:
        widths = _fitted(widths, width, whole=whole)
    for row in rows:
        cells = (_cut(cell, at).ljust(at) for cell, at in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return widths


def print_pages(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int, whole: Collection[int]) -> None:
    """Print a table of any length as it comes, some rows at a time; later ones may need wider columns."""
    widths: list[int] = []
    lines: Iterator[Sequence[str]] = chain([head], rows)
    while piece := list(islice(lines, PAGE)):
        widths = print_table(piece, least=widths, width=width, whole=whole)


def age(time: str, *, now: datetime) -> str:
    """Return how long ago a time of the API was, in its largest unit: '5m'."""
    seconds = max(0, int((now - datetime.fromisoformat(time)).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _fitted(widths: Sequence[int], width: int, *, whole: Collection[int]) -> list[int]:
    fitted = list(widths)
    for columns in ([n for n in range(len(fitted)) if n not in whole], list(range(len(fitted)))):
        while sum(fitted) + 2 * (len(fitted) - 1) > width:
            widest = max(columns, key=lambda column: fitted[column], default=0)
            if fitted[widest] <= NARROW:
                break
            fitted[widest] -= 1
    return fitted


def _cut(cell: str, width: int) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in cell)
    return shown if len(shown) <= width else shown[: width - 1] + "…"
