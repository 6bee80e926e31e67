"""Scripts that were written for Agno, executed here with only their import lines changed.

    .venv/bin/python -m ops.bench.scripts DIRECTORY [--json FILE]

DIRECTORY holds a checkout of such scripts, such as `cookbook/03_teams`. Each that imports nothing which is not here is
executed in a directory of its own, against the rule-based model, for at most a minute. The table says how each ended.
What a script needs from elsewhere (a network, a database server) makes it end with an error, as it would there.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.model import model_server

TIME_S = 60
# What Agno's modules have, and the name that it has here. A script that imports anything else of Agno is left out.
HERE = {
    "Agent": "Agent",
    "Team": "Team",
    "TeamMode": "TeamMode",
    "OpenAIChat": "OpenAIChat",
    "OpenAIResponses": "OpenAIChat",
    "SqliteDb": "SqliteDb",
    "InMemoryDb": "InMemoryDb",
    "PostgresDb": "PostgresDb",
    "Toolkit": "Toolkit",
    "RunOutput": "RunOutput",
    "TeamRunOutput": "RunOutput",
    "tool": "tool",
    "RunContext": "RunContext",
    "InputCheckError": "InputRefused",
    "OutputCheckError": "OutputRefused",
    "SessionSummaryManager": "SessionSummaryManager",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script ended: 'ok', 'error', 'time' or 'left out'. `detail`: the end of its error, or what is missing."""

    script: str
    how: str
    detail: str = ""


def converted(source: str) -> str | list[str]:
    """Return a script with its imports of Agno changed; or the names that are not here."""
    lines, missing = source.splitlines(), list[str]()
    for node in ast.walk(ast.parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        missing += [module for module in modules if module.partition(".")[0] == "agno"]
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] != "agno":
            continue
        missing += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in HERE]
        names = ", ".join(
            f"{HERE[alias.name]} as {alias.asname or alias.name}" for alias in node.names if alias.name in HERE
        )
        end = node.end_lineno or node.lineno
        lines[node.lineno - 1 : end] = [
            f"{' ' * node.col_offset}from team_sessions import {names}",
            *[""] * (end - node.lineno),
        ]
    return missing or "\n".join(lines) + "\n"


def execute(script: Path, *, name: str, url: str) -> Ended:
    """Execute one script."""
    try:
        source = converted(script.read_text())
    except SyntaxError as error:
        return Ended(name, "left out", f"SyntaxError: {error}")
    if isinstance(source, list):
        return Ended(name, "left out", ", ".join(sorted(set(source))))
    with tempfile.TemporaryDirectory() as directory:
        own = Path(directory) / script.name
        own.write_text(source)
        environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "HOME": directory}
        command = [sys.executable, own.name]
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIME_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ended(name, "time", f"over {TIME_S} s")
    if done.returncode == 0:
        return Ended(name, "ok")
    return Ended(name, "error", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(done.returncode))


def main() -> None:
    """Execute the scripts of a directory, and print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--json", type=Path, help="write how each script ended to this file")
    options = parser.parse_args()
    scripts = sorted(p for p in options.directory.rglob("*.py") if p.name != "__init__.py")
    ended: list[Ended] = []
    with model_server() as url:
        for script in scripts:
            ended.append(execute(script, name=str(script.relative_to(options.directory)), url=url))
            print(
                f"{len(ended)} of {len(scripts)}  {ended[-1].how:8}  {ended[-1].script}  {ended[-1].detail}", flush=True
            )
    counts = Counter(each.how for each in ended)
    tried = len(ended) - counts["left out"]
    print(
        f"\n{counts['ok']} of {tried} end without an error; {counts['left out']} of {len(ended)} import what is absent"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in ended], indent=1))


if __name__ == "__main__":
    main()
