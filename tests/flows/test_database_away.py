"""A run whose database fails at any of its commits: nothing is thrown away, and nothing is done twice."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from tests.support import look
from tests.support.driver import listen
from tests.support.failing import Moment, failing
from tests.support.life import accept as accept_run
from tests.support.outcomes import execute
from worker import Calls, RunContext, ScriptedModel, Team, tool
from worker.domain import Claim, Dispatch, End, RunOrder
from worker.errors import DatabaseUnavailable, ModelUnavailable
from worker.process.contact import Contact
from worker.process.presence import Presence
from worker.process.runtime import Runtime
from worker.queue.dispatch import NoDispatcher
from worker.runs.claim import NotClaimed, claim_head
from worker.runs.enqueue import enqueue
from worker.store import Database, teams
from worker.store.columns import db_time
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


def test_after_an_outage_a_living_owner_keeps_its_run(process: Process, db: Database) -> None:
    """All leases have run out. Other processes wait until the owners had the time to renew them."""
    asked, answer = threading.Event(), threading.Event()

    def reply(_request: Any) -> str:
        asked.set()
        assert answer.wait(60)
        return "Done."

    model = ScriptedModel([reply])
    owner, other = process(Team(id="t", model=model)), process(Team(id="t", model=model))
    run_id = accept(owner, "hello")
    outcomes: list[str] = []
    attempt = threading.Thread(target=lambda: outcomes.append(execute(owner, run_id, "t")))
    attempt.start()
    assert asked.wait(60)

    with suppress(DatabaseUnavailable), other.contact.observed():
        raise DatabaseUnavailable(reason="test")
    expire(db, run_id)
    early = execute(other, run_id, "t")
    expired = look.row(db, run_id).lease_until
    owner.keeper._renewed_at -= 3600
    owner.keeper.once()
    answer.set()
    attempt.join()

    model.check_finished()
    assert (early, outcomes) == ("NotFree", ["completed"])
    assert expired < look.row(db, run_id).finished_at
    assert look.row(db, run_id).attempt == 1


def test_a_disk_that_takes_no_write_is_an_outage(db: Database) -> None:
    """A sweep that finds nothing to change succeeds on a full disk, while the owners of leases cannot renew them."""
    contact = Contact(ttl_s=15)
    presence = Presence(db, contact, worker="me", definitions=[TEAM], queues=["runs"], ttl_s=15)

    with full_disk(db), suppress(DatabaseUnavailable):
        presence.announce()

    assert not contact.is_old()


def test_a_process_that_cannot_renew_its_leases_takes_no_run_over(process: Process) -> None:
    """On a disk that is nearly full some writes succeed, such as a claim, and others do not."""
    runtime = process(Team(id="t", model=ScriptedModel([lambda _request: renew_on_a_full_disk(runtime)])))
    run_id = accept(runtime, "hello")

    outcome = execute(runtime, run_id, "t")

    assert (outcome, runtime.contact.is_old()) == ("completed", False)


def renew_on_a_full_disk(runtime: Runtime) -> str:
    """Let the keeper renew its leases now, in vain."""
    runtime.keeper._renewed_at -= 3600
    with full_disk(runtime.keeper._db), suppress(DatabaseUnavailable):
        runtime.keeper.once()
    return "Done."


def test_a_connection_of_a_read_only_file_is_not_used_again(new_sqlite: Callable[[], str]) -> None:
    """SQLite opens a file read-only if it is at that moment, and the connection stays so."""
    with closing(Database(new_sqlite(), pool_size=1)) as db:
        with db.read() as tx:
            tx.execute(text("PRAGMA query_only = ON"))

        with pytest.raises(DatabaseUnavailable), db.write() as tx:
            tx.execute(update(runs).values(retries=1))
        with db.write() as tx:
            tx.execute(update(runs).values(retries=1))


@contextmanager
def full_disk(db: Database) -> Iterator[None]:
    """Fail each statement inside the block that could change a row."""

    def refuse(_cursor: Any, statement: str, _parameters: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            raise OperationalError(statement, None, OSError("no space left on device"))

    stop = listen(db.engine, after=refuse)
    try:
        yield
    finally:
        stop()


@pytest.mark.parametrize("lives", [True, False], ids=["lives", "is gone"])
def test_only_a_run_whose_process_is_gone_counts_as_lost(db: Database, lives: bool) -> None:
    """A process that announced itself after its lease had run out was cut off from the database, and not lost."""
    run_id = accept_run(db).run.id
    claim_head(db, run_id, owner="me", ttl_s=60, definition=TEAM)
    expire(db, run_id)
    with db.write() as tx:
        teams.announce(tx, worker="me" if lives else "other", versions={"t": "1"}, queues=["runs"])

    claim_head(db, run_id, owner="other", ttl_s=60, definition=TEAM)

    row = look.row(db, run_id)
    assert (row.attempt, row.losses) == (2, 0 if lives else 1)


def expire(db: Database, run_id: str) -> None:
    """Let the lease of a run end a while ago."""
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(lease_until=db_time(-30.0)))


def accept(runtime: Runtime, text: str) -> str:
    """Accept a run, and return its id."""
    return enqueue(runtime.db, RunOrder("t", text, session_id="s"), settings=runtime.settings).run.id


def written(db: Database) -> list[tuple[str, str]]:
    """Return the roles and texts of the history of the runs that have begun."""
    columns = (messages.c.role, messages.c.content)
    with db.read() as tx:
        begun = select(runs.c.id).where(runs.c.attempt > 0)
        return [(row[0], row[1]) for row in tx.execute(select(*columns).where(messages.c.run_id.in_(begun)))]
