"""A run whose database fails at any of its commits: nothing is thrown away, and nothing is done twice."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import look
from tests.support.failing import Moment, failing
from tests.support.life import accept as accept_run
from tests.support.outcomes import execute
from worker import Calls, RunContext, ScriptedModel, Team, tool
from worker.domain import Claim, Dispatch, End, RunOrder
from worker.errors import ModelUnavailable
from worker.process.runtime import Runtime
from worker.queue.dispatch import NoDispatcher
from worker.runs.claim import NotClaimed, claim_head
from worker.runs.enqueue import enqueue
from worker.store import Database
from worker.store.tables import messages, runs

Process = Callable[..., Runtime]
TEAM = Team(id="t").definition
COMMITS = {1: "claim", 2: "reply", 3: "start of a tool", 4: "result", 5: "end"}
FAILURES = [(moment, then) for moment in ("before", "after") for then in (0, 3)]


class Sent(NoDispatcher):
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def send(self, dispatches: Iterable[Dispatch]) -> None:
        """Note the runs."""
        self.ids += [str(dispatch.ids["run_id"]) for dispatch in dispatches]


def charged_by(effects: Counter[str]) -> Any:
    """Return a tool that must not be called twice, and counts its calls."""

    @tool(repeatable=False)
    def charge(context: RunContext) -> str:
        """Charge somebody."""
        effects[context.idempotency_key] += 1
        context.session_state["charged"] = context.session_state.get("charged", 0) + 1
        return "charged"

    return charge


@pytest.mark.parametrize("commit", COMMITS, ids=COMMITS.values())
@pytest.mark.parametrize(("moment", "then"), FAILURES, ids=lambda value: str(value))
def test_a_run_goes_on_when_a_commit_fails(
    process: Process, db: Database, commit: int, moment: Moment, then: int
) -> None:
    """It is the same attempt, no reply is paid again, no tool is called again, and the next run is sent once."""
    effects: Counter[str] = Counter()
    model = ScriptedModel([Calls(("charge", {})), "Done."])
    sent = Sent()
    runtime = replace(process(Team(id="t", model=model, tools=[charged_by(effects)])), dispatcher=sent)
    run_id, next_id = (accept(runtime, text) for text in ("first", "second"))

    with failing(runtime.db, at=commit, moment=moment, then=then) as commits:
        outcome = execute(runtime, run_id, "t")

    model.check_finished()
    row = look.row(db, run_id)
    assert commits.failed == 1 + then
    assert (outcome, row.status, row.attempt, row.losses, row.model_calls) == ("completed", "completed", 1, 0, 2)
    assert list(effects.values()) == [1]
    assert written(db) == [("user", "first"), ("assistant", ""), ("tool", "charged"), ("assistant", "Done.")]
    assert sent.ids == [next_id]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_waits_for_its_model_is_put_back_once(process: Process, db: Database, moment: Moment) -> None:
    """Its failures are counted once, and its process knows that it waits."""
    model = ScriptedModel([ModelUnavailable(model="m", reason="test")])
    runtime = process(Team(id="t", model=model))
    run_id = accept(runtime, "hello")

    with failing(runtime.db, at=2, moment=moment):
        outcome = execute(runtime, run_id, "t")

    row = look.row(db, run_id)
    assert outcome == "waits: model_unavailable"
    assert (row.status, row.retries, row.lease_owner) == ("queued", 1, None)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_claim_whose_answer_was_lost_is_told_from_that_of_another_thread(db: Database, moment: Moment) -> None:
    """Two deliveries of one run reach one process, so both claims have the same owner: only one of them gets it."""
    run_id = accept_run(db).run.id
    claims: list[object] = []

    def claim_meanwhile(_failing_s: float) -> bool:
        claims.append(claim_head(db, run_id, owner="me", ttl_s=60, definition=TEAM))
        return False

    with failing(db, at=1, moment=moment):
        first = claim_head(db, run_id, owner="me", ttl_s=60, definition=TEAM, give_up=claim_meanwhile)

    taken = [claim for claim in (first, *claims) if isinstance(claim, Claim)]
    refused = [claim for claim in (first, *claims) if claim == NotClaimed(End.NOT_FREE, run_id)]
    assert (len(taken), len(refused)) == (1, 1)
    assert isinstance(first, Claim) is (moment == "after")


def accept(runtime: Runtime, text: str) -> str:
    """Accept a run, and return its id."""
    return enqueue(runtime.db, RunOrder("t", text, session_id="s"), settings=runtime.settings).run.id


def written(db: Database) -> list[tuple[str, str]]:
    """Return the roles and texts of the history of the runs that have begun."""
    columns = (messages.c.role, messages.c.content)
    with db.read() as tx:
        begun = select(runs.c.id).where(runs.c.attempt > 0)
        return [(row[0], row[1]) for row in tx.execute(select(*columns).where(messages.c.run_id.in_(begun)))]
