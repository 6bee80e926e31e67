"""A refresh whose database fails at any of its commits: no answer is paid for again, and nothing is counted twice."""

from collections.abc import Callable

import pytest

from tests.support.condensing import converse, formed, jobs, long_history, team, versions
from tests.support.failing import Moment, failing
from tests.support.outcomes import refresh
from worker import ScriptedModel
from worker.errors import ModelUnavailable
from worker.process.runtime import Runtime
from worker.store import Database
from worker.summaries import due

Start = Callable[..., Runtime]


@pytest.mark.parametrize("commit", [2, 3], ids=["first piece", "second piece"])
@pytest.mark.parametrize("rebuild", [False, True], ids=["versions", "a draft, then a version"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_refresh_goes_on_when_a_commit_fails(
    db: Database, process: Start, commit: int, rebuild: bool, moment: Moment
) -> None:
    """Each piece is sent to the model once, and the job is done in the same attempt."""
    model = ScriptedModel([formed("one"), formed("two")])
    runtime = process(team(model), summary_piece_tokens=100)
    session_pk = long_history(db, pieces=2, due=None)
    request(db, session_pk, rebuild=rebuild)

    with failing(runtime.db, at=commit, moment=moment, then=2) as commits:
        outcome = refresh(runtime, session_pk, "t")

    model.check_finished()
    texts = ["two"] if rebuild else ["one", "two"]
    assert commits.failed == 3
    assert (outcome, [v.text for v in versions(db, session_pk)], jobs(db)) == (f"{len(texts)} new", texts, [])


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failed_model_is_counted_once(db: Database, process: Start, moment: Moment) -> None:
    """Whether the COMMIT that counts it happened is looked up first."""
    runtime = process(team(ScriptedModel([ModelUnavailable(model="m", reason="test")])))
    session_pk = converse(db, 1)
    request(db, session_pk)

    with failing(runtime.db, at=2, moment=moment):
        outcome = refresh(runtime, session_pk, "t")

    assert outcome == "failed: model_unavailable"
    assert [(job.failures, job.lease_owner) for job in jobs(db)] == [(1, None)]


def request(db: Database, session_pk: int, *, rebuild: bool = False) -> None:
    """Request a refresh now."""
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t", rebuild=rebuild)
