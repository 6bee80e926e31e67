"""Read and run the commands of a page of the handbook."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.postgres import NoPostgres, find_bin
from tests.support.system import ROOT

RUNBOOKS = ROOT / "ops/handbook/runbooks"


def commands(page: Path) -> dict[str, str]:
    """Return the block of commands under each heading; several under one heading are numbered."""
    blocks_by_heading: dict[str, str] = {}
    for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        heading = section.split("\n", 1)[0]
        blocks = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
        for n, block in enumerate(blocks):
            blocks_by_heading[heading if len(blocks) == 1 else f"{heading} ({n + 1})"] = block
    return blocks_by_heading


def follow(page: str, heading: str, *, directory: Path, environment: Mapping[str, str]) -> str:
    """Run the commands of a runbook under a heading unchanged, and return their output.

    Placeholders are environment variables. An unset one is an error.
    """
    path = [str(Path(sys.executable).parent), *_postgres(), os.environ["PATH"]]
    done = subprocess.run(
        ["sh", "-eu", "-c", commands(RUNBOOKS / page)[heading]],
        cwd=directory,
        env={**environment, "PATH": ":".join(path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{heading}: {done.stderr or done.stdout}"
    return done.stdout


def _postgres() -> list[str]:
    try:
        return [str(find_bin())]
    except NoPostgres:
        return []
