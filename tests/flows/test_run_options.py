"""What a caller asks of one run beyond its input: stored with it, applied under the lock, safe in a rolling deploy."""

from typing import Any

import pytest
from sqlalchemy import update

from tests.support import look
from tests.support.life import end, take
from worker import Calls, RunContext, ScriptedModel, Team
from worker.batches.accept import ExplicitItems, create
from worker.db import Db
from worker.domain import (
    CONTRACT,
    SERVICE,
    BatchOrder,
    BatchRun,
    Kind,
    OnBusy,
    RunError,
    RunOptions,
    RunOrder,
    StateChange,
    Status,
)
from worker.domain.run_order import parse_batch_run
from worker.errors import RunFailed, ValueTooLarge, WorkersTooOld
from worker.queue.dispatch import NoDispatcher
from worker.runs.claim import NotClaimed, claim_head
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending
from worker.runs.replay import replay_in
from worker.runs.retry import again
from worker.runs.why import why
from worker.settings import Settings
from worker.store import Database, leases, sessions, teams
from worker.store.tables import runs
from worker.store.tables import teams as teams_table

OPTIONS: dict[str, Any] = {"session_state": {"city": "Rome"}, "dependencies": {"plan": "pro"}}


def accept(db: Database, *, session: str = "s", key: str | None = None, **options: Any) -> str:
    order = RunOrder("t", "hello", session_id=session, user_id="u", **options)
    return enqueue(db, order, settings=Settings(), idempotency_key=key).run.id


def state(db: Database) -> Any:
    with db.read() as tx:
        return sessions.get(tx, 1).state  # type: ignore[union-attr]


def announce(db: Database, contract: int = CONTRACT, *, worker: str = "w") -> None:
    with db.write() as tx:
        teams.announce(tx, worker=worker, versions={"t": "1"}, queues=["runs"])
        tx.execute(update(teams_table).where(teams_table.c.worker == worker).values(contract=contract))


def test_a_run_sets_the_state_when_its_turn_comes_and_not_before(database_url: str) -> None:
    """By top-level keys, over what earlier runs have left; the tools and the prompt of the run see it."""
    seen: list[Any] = []

    def look_at(context: RunContext) -> str:
        """Look."""
        seen.append((dict(context.session_state), context.dependencies, context.metadata))
        context.session_state["n"] = context.session_state.get("n", 0) + 1
        return "seen"

    db = Db(database_url)
    model = ScriptedModel([Calls(("look_at", {})), "one", Calls(("look_at", {})), "two"])
    team = Team(id="t", model=model, tools=[look_at], session_state={"began": True, "city": "Oslo"}, db=db)

    team.run("first", session_id="s", session_state={"city": "Rome"}, dependencies={"plan": "pro"}, metadata={"a": 1})
    team.run("second", session_id="s", session_state={"n": 10})

    assert seen == [
        ({"began": True, "city": "Rome"}, {"plan": "pro"}, {"a": 1}),
        ({"began": True, "city": "Rome", "n": 10}, {}, {}),
    ]
    assert team.get_session_state("s") == {"began": True, "city": "Rome", "n": 11}
    db.close()


def test_a_queued_run_changes_nothing_before_it_is_claimed_and_nothing_twice(db: Database) -> None:
    """Until then the state belongs to the runs before it; a second attempt keeps what tools have changed."""
    first, second = accept(db), accept(db, **OPTIONS)
    claim = take(db, first)
    assert state(db) == {}

    end(db, claim, Ending(Status.COMPLETED))
    claim = take(db, second)

    assert claim.state == state(db) == {"city": "Rome"}
    assert claim.options.dependencies == {"plan": "pro"}

    with db.write() as tx:
        sessions.change_state(tx, claim.session_pk, StateChange({"city": "Oslo"}))
        leases.end(tx, {"me"})
    again = take(db, second, owner="another")

    assert (again.attempt, again.state, state(db)) == (2, {"city": "Oslo"}, {"city": "Oslo"})


def test_a_retry_and_a_replay_keep_the_options(db: Database) -> None:
    """They are the same order again."""
    first = accept(db, **OPTIONS)
    end(db, take(db, first), Ending(Status.FAILED, error=RunError("model_refused", "no")))
    with db.write() as tx:
        from_row = look_up(tx, first)
        retried = again(tx, from_row, settings=Settings(), priority=from_row.priority).run
        replayed = replay_in(tx, first, execute_tools=False, settings=Settings()).run

    for run in (retried, replayed):
        assert look.row(db, run.id).options == OPTIONS
        assert look.row(db, run.id).needs == RunOptions(**OPTIONS).needs == 1


def look_up(tx: Any, run_id: str) -> Any:
    from worker.store import runs as store  # noqa: PLC0415 - the name is that of the table here

    return store.get(tx, run_id, principal=SERVICE)


def test_an_order_without_options_has_the_hash_that_it_always_had() -> None:
    """A caller who repeats an order of before an update, under its key, is not refused."""
    plain = RunOrder("t", "hello", session_id="s", user_id="u", metadata={"a": 1}, timeout=9.5)

    assert plain.fingerprint() == "7f817ef302d8b3e963980e077daa1f40f436a6c2251e023e46eee0123f7f135c"
    assert plain.fingerprint(retry_of="run_1") == "ce01cfb512a0eff81e8cf33d66d655909bb0e8bb0241c2e0eff4c0ea67d37330"
    assert RunOrder("t", "hello", **OPTIONS).fingerprint() != RunOrder("t", "hello").fingerprint()
    assert "session_state" not in plain.to_json()
    with_options = BatchRun("t", "hello", user_id="u", **OPTIONS)
    assert parse_batch_run(with_options.to_json()) == with_options


def test_options_are_bounded(db: Database) -> None:
    """As metadata is: they are stored with the run."""
    team = Team(id="t", model=ScriptedModel([]))

    for name in OPTIONS:
        with pytest.raises(ValueTooLarge, match=f"{name} has"):
            team.run("hello", **{name: {"x": "y" * 70_000}})


def test_a_run_with_options_is_joined_to_no_other(db: Database) -> None:
    """Neither into a queued one, nor is a later one joined to it."""
    accept(db)
    queued = [accept(db, on_busy=OnBusy.COALESCE) for _ in range(2)]
    with_options = accept(db, on_busy=OnBusy.COALESCE, **OPTIONS)
    after = accept(db, on_busy=OnBusy.COALESCE)

    assert queued[0] == queued[1]
    assert len({queued[0], with_options, after}) == 3


def test_while_an_older_worker_lives_such_a_run_is_refused(db: Database) -> None:
    """It would execute the run without them; without a live worker, and for a plain run, nothing is asked."""
    accept(db, session="before", **OPTIONS)
    announce(db)
    accept(db, session="new", **OPTIONS)
    announce(db, 0, worker="old")

    with pytest.raises(WorkersTooOld, match="A live worker of team 't' is of an older version"):
        accept(db, session="old", **OPTIONS)
    batch = BatchOrder(kind=Kind.ENQUEUE_RUNS)
    items = ExplicitItems(requests=[BatchRun("t", "hello", **OPTIONS)])
    with pytest.raises(WorkersTooOld):
        create(db, batch, principal=SERVICE, settings=Settings(), items=items)

    accept(db, session="old")
    with db.write() as tx:
        teams.leave(tx, worker="old")
    accept(db, session="old", **OPTIONS)


def test_a_worker_leaves_a_run_alone_whose_options_it_does_not_know(db: Database) -> None:
    """After a roll-back: `why` says that a newer worker is needed, and one claims it."""
    run_id = accept(db)
    announce(db)
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(needs=CONTRACT + 1))

    definition = Team(id="t").definition
    claim = claim_head(db, run_id, owner="me", ttl_s=60, definition=definition)
    answer = why(db, NoDispatcher(), Settings(), run_id)
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(needs=CONTRACT))

    assert isinstance(claim, NotClaimed)
    assert answer.reason == "needs_newer_worker"
    assert take(db, run_id).run_id == run_id


def test_a_state_that_would_be_too_large_fails_its_run_and_stays_as_it_was(database_url: str) -> None:
    """Each order is small, and many of them are not; the session goes on."""
    db = Db(database_url)
    team = Team(id="t", model=ScriptedModel(["ok"] * 20), db=db)
    part = {"x": "y" * 60_000}

    def fill() -> None:
        for n in range(20):
            team.run("go", session_id="s", session_state={f"k{n}": part})

    with pytest.raises(RunFailed, match="session_state has"):
        fill()

    kept = team.get_session_state("s")
    assert len(kept) == 17
    assert team.run("go", session_id="s").content == "ok"
    assert team.get_session_state("s") == kept
    db.close()
