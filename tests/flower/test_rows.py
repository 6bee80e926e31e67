"""What a row of Flower makes of the events of one task, in whatever order they come."""

from typing import Any

import pytest

from worker.domain import End, Outcome, parse_outcome
from worker.domain.outcome import NOT_CLAIMED
from worker.queue.flower import Rows

ID = "run_1.1"
KWARGS = "{'run_id': 'run_1', 'session_id': 's-1', 'team': 'desk'}"


def row_of(*events: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the one task that the events are of."""
    rows = Rows()
    for clock, event in enumerate(events, start=1):
        at = {"hostname": "w@h", "timestamp": 100.0 + clock, "local_received": 100.0 + clock, "clock": clock, "pid": 1}
        rows.event({**at, "uuid": ID, **event})
    return dict(rows.tasks[ID].as_dict())


RECEIVED = {"type": "task-received", "name": "runs.execute", "args": "()", "kwargs": KWARGS}
STARTED = {"type": "task-started"}
PROGRESS = {
    "type": "task-progress",
    "name": "runs.execute",
    "kwargs": KWARGS,
    "attempt": 2,
    "result": "turn 2 · tool search",
}


def ended(words: str) -> dict[str, Any]:
    return {"type": "task-succeeded", "result": repr(words), "runtime": 1.0}


def test_a_run_at_work_has_its_ids_its_attempt_and_its_progress() -> None:
    """In the state that the filter "Started" finds."""
    row = row_of(RECEIVED, STARTED, PROGRESS)

    assert {name: row[name] for name in ("run_id", "session_id", "team", "attempt", "state", "result")} == {
        "run_id": "run_1",
        "session_id": "s-1",
        "team": "desk",
        "attempt": 2,
        "state": "STARTED",
        "result": "turn 2 · tool search",
    }
    assert (row["received"], row["started"]) == (101.0, 102.0)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("completed", "SUCCESS"),
        ("failed: model_refused", "FAILURE"),
        ("cancelled", "REVOKED"),
        ("waits: model_unavailable", "RETRY"),
        ("handed over", "RETRY"),
        ("lease lost", "RETRY"),
    ],
)
def test_the_state_is_that_of_the_run_and_what_comes_late_leaves_it(words: str, state: str) -> None:
    """A task that returns that its run has failed is a failed one; progress behind it adds the attempt, no more."""
    in_order = row_of(RECEIVED, STARTED, PROGRESS, ended(words))
    late = row_of(RECEIVED, STARTED, ended(words), PROGRESS)

    for row in (in_order, late):
        assert (row["state"], row["result"], row["attempt"]) == (state, words, 2)


def test_a_delivery_that_claimed_nothing_says_so_until_its_run_is_claimed() -> None:
    """It comes again under the same id: a background run without a free slot, a team that no worker served."""
    rejected = [RECEIVED, STARTED, ended("no free slot")]

    assert [row_of(*rejected)[name] for name in ("state", "result", "attempt")] == ["REJECTED", "no free slot", None]
    assert row_of(*rejected, RECEIVED, STARTED)["state"] == "STARTED"
    assert row_of(*rejected, PROGRESS)["state"] == "STARTED"
    again = row_of(*rejected, RECEIVED, STARTED, PROGRESS, ended("completed"))
    assert [again[name] for name in ("state", "result", "attempt")] == ["SUCCESS", "completed", 2]


@pytest.mark.parametrize("outcome", ["completed", "failed: model_refused", "waits: model_unavailable", None])
def test_a_delivery_that_comes_twice_hides_nothing_of_the_first(outcome: str | None) -> None:
    """Neither how its run went nor what it is at."""
    first = [RECEIVED, STARTED, PROGRESS] + ([ended(outcome)] if outcome else [])
    seen = row_of(*first)

    row = row_of(*first, RECEIVED, STARTED, ended("NotFree"))

    assert row["result"] == seen["result"]
    assert row["attempt"] == 2
    assert row["state"] == seen["state"]


def test_what_claims_nothing_is_rejected() -> None:
    """A delivery returns what kept it from claiming its run."""
    assert {End.GONE, End.NOT_HEAD, End.NOT_FREE} < NOT_CLAIMED
    assert {row_of(RECEIVED, STARTED, ended(end.value))["state"] for end in NOT_CLAIMED} == {"REJECTED"}


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize("detail", [None, "model_refused"])
def test_an_outcome_is_read_back_from_its_text(end: End, detail: str | None) -> None:
    """Flower's process knows the text alone."""
    outcome = Outcome(end, detail)

    assert end is End.REFRESHED or parse_outcome(str(outcome)) == outcome
    assert parse_outcome("2 new") is None


def test_whoever_begins_to_listen_in_the_middle_knows_the_run() -> None:
    """Its row stands with those that were just received: the table shows the newest first."""
    row = row_of(PROGRESS)

    assert (row["name"], row["session_id"], row["state"]) == ("runs.execute", "s-1", "STARTED")
    assert row["received"] == row["started"] == 101.0


def test_arguments_that_are_no_ids_make_no_columns() -> None:
    """Any client of the broker can send them; they are read as data, and unreadable ones are ignored."""
    for kwargs in ("", "{'run_id': 'run_1', 'session...", "[1]", "__import__('os').abort()", "{'session_id': ['x']}"):
        row = row_of({**RECEIVED, "kwargs": kwargs})

        assert row["session_id"] in (None, "['x']")


def test_a_worker_that_is_gone_is_forgotten() -> None:
    """Each start of a worker is a new name: counters of those that left do not pile up."""
    rows = Rows(max_workers_in_memory=5)
    for n in range(50):
        for kind in ("online", "offline"):
            at = {"timestamp": 1.0 + n, "local_received": 1.0 + n, "clock": n}
            rows.event({"type": f"worker-{kind}", "hostname": f"worker-{n}@h", **at})

    assert len(rows.counter) <= 6
