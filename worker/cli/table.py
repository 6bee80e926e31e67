"""Tables for people: columns as wide as their widest cell."""

from collections.abc import Sequence

import click


def print_table(rows: Sequence[Sequence[str]], *, least: Sequence[int] = ()) -> list[int]:
    """Print rows of equal length, each column at least as wide as *least* says; return how wide each was."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths = [max(pair) for pair in zip(widths, least or widths, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return widths
