"""The short form of outages: a store or the model is away for all processes, for longer than a lease."""

import pytest

from ops.chaos.endure import endure
from ops.chaos.system import NotPossible

pytestmark = [pytest.mark.processes, pytest.mark.extended]
SECONDS, RUNS = 9.0, 40


@pytest.mark.parametrize(
    ("outage", "kind"),
    [
        ("share_lock_of_messages", "postgres"),
        ("full_disk_of_sqlite", "sqlite"),
        ("frozen_broker", "postgres"),
        ("model_answers_a_page", "sqlite"),
    ],
)
def test_an_outage_fails_no_run_and_throws_nothing_away(outage: str, kind: str) -> None:
    """Every promise holds, every run completes, and no answer that a living process held is paid for again."""
    try:
        endured = endure(kind, outage, seconds=SECONDS, count=RUNS)
    except NotPossible as error:
        pytest.skip(str(error))

    assert {promise: found for promise, found in endured.violations.items() if found} == {}
    assert endured.counts["completed"] == RUNS


def test_a_build_that_gives_up_at_the_first_failure_is_found() -> None:
    """Answers that it held are paid for again."""
    endured = endure("postgres", "stopped_postgres", seconds=SECONDS, count=RUNS, broken="patience")

    assert endured.violations["outages throw nothing away"]
