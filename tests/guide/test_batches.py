"""The page of batches is followed, on as many rows as it has: a canary, a pause, what failed again, a budget."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from api_stub.client import Client
from tests.support.system import ROOT, system, wait_until
from tests.support.walk import reader

PAGE = ROOT / "ops/handbook/batches.md"
ROWS, FAILING = 200, 40  # each 40th is refused by the model
PRICES = {"*": {"input": 0.25, "output": 2}}


@pytest.mark.extended
@pytest.mark.processes
def test_the_evening_of_the_page_comes_out_as_it_says(tmp_path: Path, new_sqlite: Callable[[], str]) -> None:
    """Each command prints what stands below it, but for numbers and times."""
    there = tmp_path / "there"
    settings = {
        "TEAM_SESSIONS_DATA_DIR": str(tmp_path),
        "TEAM_SESSIONS_PRICES": str(tmp_path / "prices.json"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    with system(tmp_path, database_url=new_sqlite(), redis_url="", settings=settings) as running:
        _, client = running.start_up("--workers", "1")

        def some_failed() -> None:
            wait_until(lambda: newest(client)["items"]["failed"] > 0, description="an item has failed")

        operator = reader(there, environment=running.environment, before={"batches pause": some_failed}, exact=False)
        (there / "runs.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(1, ROWS + 1)))
        try:
            operator.follow(PAGE)
        finally:
            operator.close()

    assert len((there / "results.jsonl").read_text().splitlines()) == ROWS - ROWS // FAILING


def row(n: int) -> dict[str, str]:
    """Return a line of the file: every 40th run is refused; each takes a while, so that there is something to pause."""
    mark = " [fail=400]" if n % FAILING == 0 else ""
    return {
        "custom_id": f"row-{n}",
        "team": "plain",
        "input": f"Hello, what became of my parcel? [delay=0.7]{mark}",
        "session_id": f"s{n}",
        "user_id": f"u{n % 7}",
    }


def newest(client: Client) -> dict[str, dict[str, int]]:
    """Return the batch that was ordered last."""
    return dict(next(iter(client.batches())))  # type: ignore[arg-type]  # a typed dictionary is one
