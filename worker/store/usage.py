"""Usage in rows: runs, summaries and batches have the same four columns."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, bindparam, case

from worker.domain import Usage
from worker.store.tables import runs

NAMES = ("model_calls", "input_tokens", "cached_input_tokens", "output_tokens")
MOST = 2**31 - 1  # of a column
OF_RUN = tuple(runs.c[name] for name in NAMES)


def usage_of(row: Any) -> Usage:
    """Return the usage of a row; zeros where an outer join found no row."""
    return Usage(*(getattr(row, name) or 0 for name in NAMES))


def booked() -> dict[str, Any]:
    """Return the values of an UPDATE of `runs` that adds usage; `amounts` returns its parameters."""
    return {column.name: _sum(column) for column in OF_RUN}


def amounts(usage: Usage) -> dict[str, int]:
    """Return the parameters of `booked`."""
    return {f"add_{name}": number for name, number in columns(usage).items()}


def columns(usage: Usage) -> dict[str, int]:
    """Return *usage* as it fits into the columns of a row."""
    return {name: min(getattr(usage, name), MOST) for name in NAMES}


def _sum(column: Column[int]) -> ColumnElement[int]:
    """Return the sum of a column and what is added, at most what the column can hold: it must not fail a run."""
    added = bindparam(f"add_{column.name}", type_=Integer)
    return case((column > MOST - added, MOST), else_=column + added)
