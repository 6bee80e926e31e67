"""The log line of each delivery has its facts as fields."""

import json
from typing import Any

from tests.api.door import Door, name
from tests.support.system import wait_until


def line_about(door: Door, run_id: str) -> dict[str, Any]:
    """Return the line that the worker logs when an attempt of a run has ended."""

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in door.system.log("worker-1").splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("run_id") == run_id and "outcome" in line]

    return wait_until(found, description="the attempt's end is logged")[0]


def test_an_attempt_that_completed_its_run_is_logged_with_its_fields(door: Door) -> None:
    """Run, session, team, attempt, queue, outcome and seconds, at INFO; no sentence of Celery's repeats them."""
    run = door.ended(door.enqueue(session_id=name("s"))["id"])

    line = line_about(door, run["id"])

    about = {"run_id": run["id"], "session_id": run["session_id"], "team": "plain", "attempt": 1, "queue": "runs"}
    assert {field: line[field] for field in about} == about
    assert (line["level"], line["text"], line["outcome"]) == ("INFO", "attempt ended", "completed")
    assert 0 <= line["seconds"] < 120
    assert "error" not in line
    assert "succeeded in" not in door.system.log("worker-1")


def test_a_failed_attempt_is_a_warning_with_its_code(door: Door) -> None:
    """It did not succeed, whatever Celery thinks of its task."""
    run = door.ended(door.enqueue("[fail=400]")["id"])

    line = line_about(door, run["id"])

    assert (line["level"], line["outcome"], line["error"]) == ("WARNING", "failed", "model_refused")


def test_the_api_logs_its_address_when_it_listens(door: Door) -> None:
    """Otherwise it starts in silence."""
    ready = [json.loads(line) for line in door.system.log("api").splitlines() if '"api ready"' in line]

    assert [line["url"] for line in ready] == [door.system.url]
