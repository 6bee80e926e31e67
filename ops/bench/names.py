"""names: the behaviour of names that the product shares with Agno, in both.

Two processes, each in its own environment, carry out the experiments of peers/names_experiments.py: SQLite in a
temporary directory, a rule-based model on loopback. Their results must equal the measured rows of ops/handbook/names.md
word for word. This detects a broken promise of the product, and a wrong statement about the locked release of Agno.
The first time, pip installs that release into .peers/agno.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress
from tests.support.model import model_server

PAGE = Path(__file__).parent.parent / "handbook" / "names.md"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the page: names that are spelled as in code, and a cell for each product."""

    names: frozenset[str]
    here: str
    agno: str
    measured: str


def rows() -> list[Row]:
    """Return the rows of the page."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [Row(frozenset(re.findall(r"`([^`]+)`", names)), *cells[:3]) for names, *cells in lines]


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure on SQLite, whatever the kind."""
    agno = f"Agno {environment.version('agno')}"
    python = environment.python("agno")
    with model_server() as url:
        model = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        progress("names: here")
        here = environment.run(Path(sys.executable), "names_here.py", environment=model)
        progress(f"names: {agno}")
        there = environment.run(python, "names_agno.py", environment=model)
    lines = [f"| `{name}` | {here[name]} | {there[name]} |" for name in here]
    report.tables.append("\n".join([f"| name | here | {agno} |", "|---|---|---|", *lines]))
    written = {name: row for row in rows() for name in row.names}
    # What only Agno has is shown, but has no row.
    measured = [name for name in here if name in written or here[name] != "absent"]
    for whose, facts, cell in (("here", here, "here"), (agno, there, "agno")):
        wrong = [name for name in measured if name not in written or getattr(written[name], cell) != facts[name]]
        result = f"{len(measured) - len(wrong)} of {len(measured)}" + "".join(f"; not so: {name}" for name in wrong)
        report.checks.append(Check(f"names, {whose}: what ops/handbook/names.md says", result, not wrong))
    report.raw = {"here": here, agno: there}
