"""What runbooks and the threat model name is there, and what they must name they do."""

import re
from pathlib import Path

import pytest

from ops.handbook.generate import HERE
from tests.architecture.test_house import ROOT, tracked

WHY = (ROOT / "worker/runs/why.py").read_text()
PAGES = sorted(HERE.rglob("*.md"))


def test_each_reason_has_its_remedy() -> None:
    """The table of `stuck-run.md` has a row for each reason that `why` can give, and for no other."""
    reasons = set(re.findall(r'_because\(row, "([a-z_]+)"', WHY))
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (.+) \| (.+) \|$", (HERE / "runbooks/stuck-run.md").read_text(), re.MULTILINE
    )

    assert len(reasons) == WHY.count("_because(row,") > 10, "a reason is written where it is given"
    assert sorted(name for name, *_ in rows) == sorted(reasons)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(HERE)) for page in PAGES])
def test_what_a_page_of_the_handbook_names_is_there(page: Path) -> None:
    """Links, files, and tests by their names."""
    text = page.read_text()
    links = [found for found in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in found]
    files = re.findall(r"`((?:tests|ops|worker|api_stub)/[\w./-]+)`", text)
    tests = set(re.findall(r"`(test_\w+)`", text))
    functions = {name for file in tracked("tests/*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}

    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert tests - functions == set()


def test_each_log_line_that_operations_explains_is_written_somewhere() -> None:
    """Who searches the log for what the page says finds it."""
    text = (HERE / "operations.md").read_text()
    table = text.partition("| line | it means |\n|---|---|\n")[2].partition("\n\n")[0]
    lines = [line for row in table.splitlines() for line in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    source = "".join(file.read_text() for file in tracked("worker/*.py", "api_stub/*.py"))

    assert len(lines) > 8
    assert [line for line in lines if f'("{line}"' not in source and f'failure="{line}"' not in source] == []
