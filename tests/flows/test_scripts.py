"""What happens to a script: it forks, or Ctrl-C interrupts it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.system import ROOT


def play(script: str, *arguments: str) -> list[Any]:
    """Run a script, and return what it has printed."""
    command = [sys.executable, "-m", f"tests.support.{script}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_process_that_forks_after_its_first_run_works_twice(database_url: str) -> None:
    """Parent and child execute runs at the same time, each by connections, threads and loops of its own."""
    seen = play("forking_script", database_url)

    assert sorted(line["who"] for line in seen) == ["child", "parent"]
    assert [line["wrong"] for line in seen] == [[], []]


@pytest.mark.parametrize("stream", [(), ("stream",)])
@pytest.mark.parametrize("place", ["model", "tool", "coroutine"])
def test_an_interrupt_cancels_the_run(database_url: str, place: str, stream: tuple[str, ...]) -> None:
    """It has ended, so the next one of its session begins at once, and nothing of it is asked again."""
    seen = play("interrupted_script", database_url, place, *stream)

    assert seen == [{"runs": ["cancelled", "completed"], "answer": "the second"}]
