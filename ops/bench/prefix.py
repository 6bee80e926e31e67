"""prefix: how much of each context equals the start of the one before it, ours and Agno's: what a cache could reuse.

The same script with either product, `Team.run` on SQLite: one session of 100 runs, a tool in every tenth, so 110
calls. Summaries and history are on: in Agno with the last 3 runs (`num_history_runs=3`), as its documentation advises,
here without a number, so that messages are only added until the next summary, which is due at 40 messages, as by
default. Inputs have 300 characters, answers 60 words; summaries 100 words.

A context is what the model server got: the JSON of its messages, one behind the other. Its share is the length of the
beginning that it has in common with the context before it, divided by its own length. It breaks the prefix where the
context before it is not its beginning as a whole.
"""

import json
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from ops.bench.peers import environment
from ops.bench.report import Check, Report, progress, table
from tests.support.model import model_server

RUNS = 100


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure on SQLite, whatever the kind: contexts do not depend on it."""
    agno = f"Agno {environment.version('agno')}"
    rows, broken, made = [], {}, {}
    for name, python in (("here", Path(sys.executable)), (agno, environment.python("agno"))):
        progress(f"prefix: {name}")
        contexts, made[name] = _contexts(python, history_runs="" if name == "here" else "3")
        common = [_common(before, context) for before, context in pairwise(contexts)]
        lengths = [len(context) for context in contexts]
        shares = [equal / length for equal, length in zip(common, lengths[1:], strict=True)]
        broken[name] = sum(equal < before for equal, before in zip(common, lengths[:-1], strict=True))
        new = statistics.mean(length - equal for equal, length in zip(common, lengths[1:], strict=True))
        means = [f"{statistics.mean(shares):.3f}", f"{statistics.mean(lengths):,.0f}", f"{new:,.0f}"]
        rows.append([name, len(contexts), made[name], *means, broken[name]])
        report.raw[name] = {"shares": shares, "lengths": lengths, "summaries": made[name]}
    columns = ["", "calls", "summaries", "mean share", "mean length", "of it new", "calls that broke it"]
    report.tables.append(table(f"prefix: {RUNS} runs; what a context has in common with the one before", columns, rows))
    promise = "prefix: ours is broken by new summaries only"
    result = f"{broken['here']} times by {made['here']} summaries"
    report.checks.append(Check(promise, result, broken["here"] <= made["here"]))


def _contexts(python: Path, *, history_runs: str) -> tuple[list[str], int]:
    """Return the contexts of the runs' calls, in order, and how many summaries were made."""
    with tempfile.TemporaryDirectory(prefix="ts-bench-") as directory:
        journal = Path(directory) / "journal.jsonl"
        with model_server("--journal", str(journal), "--contexts") as model:
            models = {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none", "SUMMARY_MODEL": "rules[words=100]"}
            settings = {"DATABASE": "session.db", "RUNS": str(RUNS), "HISTORY_RUNS": history_runs, **models}
            environment.run(python, "prefix.py", environment=settings)
        requests = [line for line in map(json.loads, journal.read_text().splitlines()) if line["event"] == "asked"]
    contexts = ["".join(map(json.dumps, line["context"])) for line in requests if not line["summary"]]
    return contexts, len(requests) - len(contexts)


def _common(text: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    return next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
