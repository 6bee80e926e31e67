"""The short form of chaos: everything breaks for some seconds, no promise does; and the checker would notice."""

import os
import random

import pytest

from ops.chaos.broken import BREAKS
from ops.chaos.play import play

pytestmark = pytest.mark.processes
SECONDS, BROKEN_SECONDS = 20.0, 15.0
PERFORMANCES = 4  # of a broken build: whether a fault hits the moment that needs the missing part is a matter of chance
# What the checker must say of each broken build.
FINDINGS = {
    "fence": "no zombie writes",
    "lock": "no zombie writes",
    "resume": "paid once",
    "dispatch": "nothing is stuck",
    "finish": "whole when it ends",
    "patience": "outages throw nothing away",
}


def new_seed() -> str:
    """Return the seed of this test, and print it: TEAM_SESSIONS_TEST_SEED gives it back."""
    seed = os.environ.get("TEAM_SESSIONS_TEST_SEED") or str(random.randrange(2**32))
    print(f"TEAM_SESSIONS_TEST_SEED={seed}")
    return seed


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_promise_breaks_when_everything_else_does(kind: str) -> None:
    """Workers, stores and models are broken while people of 40 sessions use the product."""
    outcome = play(kind, seconds=SECONDS, seed=new_seed())

    assert {promise: found for promise, found in outcome.violations.items() if found} == {}
    assert outcome.faults.total() > 2
    assert outcome.counts["completed"] > 10


# SQLite has one writer at a time: there is no lock that could be taken off, and no connection that breaks.
ON_POSTGRES = ("lock", "patience")


@pytest.mark.extended
@pytest.mark.parametrize(
    ("broken", "kind"), [(name, "postgres" if name in ON_POSTGRES else "sqlite") for name in BREAKS], ids=list(BREAKS)
)
def test_a_broken_build_is_found(broken: str, kind: str) -> None:
    """With one mechanism off, the faults that need it lead to violations of the promise that hangs on it."""
    played = (play(kind, seconds=BROKEN_SECONDS, seed=new_seed(), broken=broken) for _ in range(PERFORMANCES))

    assert any(outcome.violations[FINDINGS[broken]] for outcome in played)
