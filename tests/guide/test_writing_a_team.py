"""The page about writing a team: its code is executed block by block, as somebody would who reads it."""

import re
from typing import Any

import pytest

from tests.support.system import ROOT

PAGE = (ROOT / "ops/handbook/writing-a-team.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("any_model")
def test_the_code_of_the_page_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """All blocks, in one namespace, against the rule-based model; what they print is what the page announces."""
    names: dict[str, Any] = {"__name__": "page"}
    printed = []

    for block in BLOCK.findall(PAGE):
        exec(compile(block, "writing-a-team.md", "exec"), names)  # the page is ours
        printed.append(capsys.readouterr().out)

    text = "\n".join(printed)
    assert len(printed) >= 10
    assert "completed" in text
    assert "has 3 mistake(s)" in text
    assert all(part in text for part in ("did you mean 'instructions'?", "num_history_runs is '3'", "needs members"))
    assert names["pool"] == []


def test_the_page_is_found() -> None:
    """From the handbook's table."""
    assert "(writing-a-team.md)" in (ROOT / "ops/handbook/README.md").read_text()
