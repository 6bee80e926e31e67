"""The page of chaos: what takes half an hour is played short by tests/crash/test_chaos.py, the rest is typed."""

from pathlib import Path

from tests.support.system import ROOT
from tests.support.walk import reader

PAGE = ROOT / "ops/handbook/chaos.md"


def test_the_help_that_the_page_points_to_names_every_fault(tmp_path: Path) -> None:
    """The command is what `ops/chaos/run` becomes where there is an environment already."""
    curious = reader(tmp_path / "clone", replace={"^ops/chaos/run": ".venv/bin/python -m ops.chaos.main"})

    try:
        curious.follow(PAGE)
    finally:
        curious.close()
