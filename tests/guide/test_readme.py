"""The README is walked through by somebody who has nothing else, and prints what stands in it."""

from pathlib import Path

import pytest

from api_stub.client import Client
from tests.support.system import ROOT
from tests.support.walk import reader
from worker.queue.embedded import free_port


@pytest.mark.processes
def test_a_newcomer_types_all_that_stands_in_the_readme(tmp_path: Path) -> None:
    """Demo, `up`, a service of one's own, a team in a file, a script, an order through Celery, a batch."""
    replace = {
        "^ops/demo$": ".venv/bin/python ops/play_demo.py",  # all that it does where there is an environment
        r"team-sessions up$": "team-sessions up --port 8000 --flower-port 5555",
        **{rf"\b{port}\b": str(free_port()) for port in (9000, 8000, 5555)},
    }
    newcomer = reader(tmp_path / "clone", replace=replace)
    files = tmp_path / "clone/.team-sessions"

    try:
        newcomer.follow(ROOT / "README.md")
        with Client((files / "api-url").read_text().strip(), (files / "api-key").read_text().strip()) as client:
            ordered = next(iter(client.runs(idempotency_key="order-17")))
            ordered = client.run(ordered["id"], wait_s=60)
    finally:
        newcomer.close()

    assert ordered["status"] == "completed"
    assert (tmp_path / "clone/replays.jsonl").read_text().count('"same"') >= 1
