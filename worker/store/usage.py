"""Usage in rows: runs, summaries and batches have the same four columns."""

from typing import Any

from sqlalchemy import Integer, bindparam

from worker.domain import Usage
from worker.store.tables import runs

NAMES = ("model_calls", "input_tokens", "cached_input_tokens", "output_tokens")
OF_RUN = tuple(runs.c[name] for name in NAMES)


def usage_of(row: Any) -> Usage:
    """Return the usage of a row; zeros where an outer join found no row."""
    return Usage(*(getattr(row, name) or 0 for name in NAMES))


def booked() -> dict[str, Any]:
    """Return the values of an UPDATE of `runs` that adds usage; `amounts` returns its parameters."""
    return {column.name: column + bindparam(f"add_{column.name}", type_=Integer) for column in OF_RUN}


def amounts(usage: Usage) -> dict[str, int]:
    """Return the parameters of `booked`."""
    return {f"add_{name}": getattr(usage, name) for name in NAMES}
