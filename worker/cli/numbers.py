"""The numbers that options take. What is no number, or out of range, is refused with the range."""

import math
from typing import Any

import click

MAX_PORT = 65535
PORT = click.IntRange(1, MAX_PORT)
COUNT = click.IntRange(1, 1_000_000_000)  # fits into every column
THREADS = click.IntRange(1, 10_000)  # of one process
PROCESSES = click.IntRange(1, 1_000)


class FiniteRange(click.FloatRange):
    """A range without "nan", which compares as within each range, and without infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


COST = FiniteRange(0, 1e12, min_open=True)
