"""Batches, on both databases: planned whole, started once, within the window, counted correctly, ended once."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from tests.support.batches import Played, end_as, ended_runs, requests
from tests.support.life import accept
from tests.support.plans import plan, statements
from worker import privacy
from worker.batches import accept as accept_batch
from worker.batches import feed, lifecycle
from worker.batches import plan as planning
from worker.batches.accept import ExplicitItems
from worker.domain import (
    SERVICE,
    BatchOrder,
    BatchRun,
    BatchStatus,
    Budget,
    Kind,
    Limits,
    PausedBy,
    Price,
    Principal,
    Status,
)
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound
from worker.settings import Settings
from worker.store import Database, erasure, users
from worker.store.tables import batch_items, runs

RETRY = BatchOrder(kind=Kind.RETRY_FAILED)
ENQUEUE = BatchOrder(kind=Kind.ENQUEUE_RUNS)


def count(db: Database, table: object) -> int:
    """Return how many rows a table has."""
    with db.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_a_batch_is_planned_begun_and_ended(db: Database) -> None:
    """Every failed run is retried once, in the background, at the end of its session."""
    failed = ended_runs(db, 3)
    ended_runs(db, 0)
    batch = Played(db, RETRY)

    assert (batch.now.status, batch.now.planned) == (BatchStatus.CREATED, 0)
    assert (batch.step().status, batch.now.planned, batch.now.in_flight) == (BatchStatus.RUNNING, 3, 3)
    made = batch.in_flight()
    assert [sent.ids["run_id"] for sent in batch.sent] == made
    assert {sent.queue for sent in batch.sent} == {"batch"}
    with db.read() as tx:
        again = tx.execute(
            select(runs.c.retry_of, runs.c.position).where(runs.c.id.in_(made)).order_by(runs.c.id)
        ).all()
    assert again == [(run_id, 2) for run_id in failed]
    assert batch.end() == 3
    done = batch.step()
    assert (done.status, done.ended, done.outcomes) == (BatchStatus.COMPLETED, 3, {"completed": 3})
    assert (done.spent.usage.model_calls, done.spent.usage.input_tokens) == (3, 30)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert done.started_at < done.finished_at
    assert batch.statuses() == ["completed"] * 3
    assert batch.step() == done


def test_never_more_than_the_window_is_in_flight(db: Database) -> None:
    """Each item is started once, in order."""
    batch = Played(db, replace(ENQUEUE, window=4), requests(10))
    seen: list[str] = []

    while batch.step().status is BatchStatus.RUNNING:
        assert batch.now.in_flight == len(batch.in_flight()) <= 4
        seen += batch.in_flight()[:3]
        for run_id in batch.in_flight()[:3]:
            end_as(db, run_id, Status.COMPLETED)

    assert len(seen) == len(set(seen)) == count(db, runs) == 10
    with db.read() as tx:
        by_number = select(batch_items.c.run_id).order_by(batch_items.c.number)
        assert list(tx.execute(by_number).scalars()) == seen


def test_a_step_that_is_broken_off_is_as_if_it_had_not_begun(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run and the record that its item was started are written together or not at all."""
    batch = Played(db, ENQUEUE, requests(5))
    begin = feed.batch_items.start

    def dies(*args: object, **kwargs: object) -> None:
        begin(*args, **kwargs)  # type: ignore[arg-type]
        if args[2] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(feed.batch_items, "start", dies)
    with pytest.raises(KeyboardInterrupt):
        batch.step()
    monkeypatch.undo()

    assert (count(db, runs), batch.now.fed) == (0, 0)
    assert (batch.step().fed, count(db, runs)) == (5, 5)


def test_a_canary_goes_first_and_waits_for_a_yes(db: Database) -> None:
    """The first items run alone; the others start when the batch is resumed."""
    batch = Played(db, replace(ENQUEUE, canary="25%"), requests(10))

    assert (batch.step().in_flight, batch.now.canary) == (3, 3)
    batch.end()
    paused = batch.step()
    assert (paused.status, paused.paused_by, paused.ended) == (BatchStatus.PAUSED, PausedBy.CANARY, 3)
    assert batch.step() == paused
    lifecycle.resume(db, batch.id, principal=SERVICE)
    assert (batch.step().status, batch.now.in_flight) == (BatchStatus.RUNNING, 7)


def test_a_budget_pauses_the_batch_before_it_is_passed(db: Database) -> None:
    """The budget counts tokens and cost. The batch continues only with a higher budget."""
    for budget in (Budget(tokens=35), Budget(cost=0.0035)):
        order = replace(ENQUEUE, budget=budget, prices={"*": Price(input=100.0)}, window=3)
        batch = Played(db, order, requests(20))
        while batch.step().status is BatchStatus.RUNNING:
            batch.end()

        paused = batch.now
        assert (paused.paused_by, paused.ended, paused.spent.usage.input_tokens) == (PausedBy.BUDGET, 3, 30)
        assert paused.spent.cost == pytest.approx(0.003)
        with pytest.raises(BatchInvalid, match="name a higher one"):
            lifecycle.resume(db, batch.id, principal=SERVICE)
        lifecycle.resume(db, batch.id, principal=SERVICE, budget=Budget(1000, 1.0))
        while batch.step().status is BatchStatus.RUNNING:
            batch.end()
        assert (batch.now.status, batch.now.ended) == (BatchStatus.COMPLETED, 20)


@pytest.mark.parametrize(
    ("limits", "begun"),
    [
        (Limits(items_per_minute=7), 7),
        (Limits(requests_per_minute=7), 7),
        (Limits(tokens_per_minute=75), 7),
    ],
    ids=["items", "requests", "tokens"],
)
def test_no_more_than_a_minute_allows(db: Database, limits: Limits, begun: int) -> None:
    """The minute is on the database's clock, and survives a crash."""
    batch = Played(db, replace(ENQUEUE, limits=limits), requests(30))

    for _ in range(12):
        batch.step()
        batch.end()

    assert (batch.step().ended, batch.now.status) == (begun, BatchStatus.RUNNING)


def test_pause_resume_and_cancel_are_at_once(db: Database) -> None:
    """A paused batch starts nothing. The queued runs of a cancelled batch end with it."""
    batch = Played(db, replace(ENQUEUE, window=2), requests(6))
    batch.step()

    assert lifecycle.pause(db, batch.id, principal=SERVICE).paused_by is PausedBy.REQUEST
    batch.end()
    assert (batch.step().status, batch.now.ended, batch.now.in_flight) == (BatchStatus.PAUSED, 2, 0)
    assert lifecycle.resume(db, batch.id, principal=SERVICE).status is BatchStatus.RUNNING
    assert batch.step().in_flight == 2
    assert lifecycle.cancel(db, batch.id, principal=SERVICE, send=batch.sent.extend).status is BatchStatus.CANCELLED
    assert batch.in_flight() == []
    done = batch.step()
    assert (done.outcomes, done.finished_at is not None) == ({"completed": 2, "cancelled": 2}, True)
    assert batch.statuses() == ["completed"] * 2 + ["cancelled"] * 2 + ["waiting"] * 2
    for act in (lifecycle.pause, lifecycle.resume, lifecycle.retry):
        with pytest.raises(BatchConflict):
            act(db, batch.id, principal=SERVICE)


def test_what_failed_is_tried_again(db: Database) -> None:
    """A retry is a new run that names the run before. Completed items are left alone."""
    batch = Played(db, ENQUEUE, requests(4))
    batch.step()
    first = batch.in_flight()
    for run_id, status in zip(first, (Status.COMPLETED, Status.FAILED) * 2, strict=True):
        end_as(db, run_id, status)
    assert (batch.step().status, batch.now.outcomes) == (BatchStatus.COMPLETED, {"completed": 2, "failed": 2})

    assert lifecycle.retry(db, batch.id, principal=SERVICE).status is BatchStatus.RUNNING
    assert (batch.now.ended, batch.now.outcomes) == (2, {"completed": 2})
    batch.step()
    second = batch.in_flight()
    batch.end()

    assert (batch.step().status, batch.now.outcomes) == (BatchStatus.COMPLETED, {"completed": 4})
    with db.read() as tx:
        again = tx.execute(select(runs.c.retry_of).where(runs.c.id.in_(second)).order_by(runs.c.id)).scalars()
        assert list(again) == [first[1], first[3]]
    assert [item.tries for item in lifecycle.items(db, batch.id, principal=SERVICE)] == [1, 2, 1, 2]


def test_an_item_that_cannot_be_begun_has_failed_with_that(db: Database) -> None:
    """The item has the error, and the others continue. An erased item counts as gone."""
    accept(db, session="taken")
    other = BatchRun("other", "hello", session_id="taken", user_id="u", custom_id="a")
    items = ExplicitItems(requests=[other, *requests(1).requests])
    refused = Played(db, ENQUEUE, items)
    failed = ended_runs(db, 2)
    again = Played(db, RETRY)
    planning.plan(db, again.id)
    with db.write() as tx:
        erasure.erase_session_of_run(tx, failed[0])

    assert (refused.step().outcomes, refused.now.in_flight) == ({"failed": 1}, 1)
    item = lifecycle.items(db, refused.id, principal=SERVICE)[0]
    assert (item.status, item.error and item.error.code, item.custom_id) == ("failed", "session_of_other_team", "a")
    assert (again.step().outcomes, again.statuses()) == ({"gone": 1}, ["gone", "queued"])


def test_an_item_that_meets_a_fault_of_ours_has_failed(db: Database) -> None:
    """If the database refuses one row, the other items and other batches are still started."""
    with db.write() as tx:
        if db.is_sqlite:
            cursed = "BEFORE INSERT ON runs WHEN NEW.input = 'cursed' BEGIN SELECT RAISE(ABORT, 'cursed'); END"
            tx.exec_driver_sql(f"CREATE TRIGGER cursed {cursed}")
        else:
            tx.exec_driver_sql("ALTER TABLE team_sessions.runs ADD CHECK (input <> 'cursed')")
    texts = ("hello", "cursed", "hello")
    items = ExplicitItems(requests=[BatchRun("t", text) for text in texts])
    batch = Played(db, ENQUEUE, items)

    assert (batch.step().outcomes, batch.statuses()) == ({"failed": 1}, ["queued", "failed", "queued"])
    assert lifecycle.items(db, batch.id, principal=SERVICE)[1].error.code == "internal"


def test_a_cancelled_batch_waits_for_no_summary(db: Database) -> None:
    """Its refreshes may never run, because no worker serves the team."""
    ended_runs(db, 3, Status.COMPLETED)
    batch = Played(db, BatchOrder(kind=Kind.REFRESH_SUMMARIES))
    assert (batch.step().in_flight, batch.statuses()) == (3, ["queued"] * 3)

    lifecycle.cancel(db, batch.id, principal=SERVICE, send=list)

    done = batch.step()
    assert (done.outcomes, done.finished_at is not None) == ({"cancelled": 3}, True)
    assert batch.statuses() == ["cancelled"] * 3


def test_what_a_user_has_asked_for_is_erased_with_the_user(db: Database) -> None:
    """Requests in waiting items are erased; such an item counts as gone."""
    items = ExplicitItems(requests=[BatchRun("t", "secret", user_id=user) for user in "uv"])
    batch = Played(db, ENQUEUE, items)
    own = accept_batch.create(db, RETRY, principal=Principal("k", user_id="u"), settings=Settings())
    written_out = list(privacy.export(db, "u", principal=SERVICE))
    item, ordered = written_out
    assert (item["type"], item["number"], item["request"]["input"]) == ("batch_item", 1, "secret")
    assert (ordered["type"], ordered["id"]) == ("batch", own.id)

    with db.write() as tx:
        users.erase_rest(tx, "u")

    with db.read() as tx:
        rows = tx.execute(select(batch_items).order_by(batch_items.c.number)).all()
    assert [(row.request is None, row.user_id) for row in rows] == [(True, None), (False, "v")]
    with pytest.raises(BatchNotFound):
        lifecycle.get(db, own.id, principal=SERVICE)
    assert batch.step().outcomes == {"gone": 1}
    assert batch.statuses() == ["gone", "queued"]


def test_a_step_reads_indexes_that_hold_what_is_left(db: Database) -> None:
    """So the last item costs as much as the first."""
    batch = Played(db, replace(ENQUEUE, window=5), requests(20))

    with statements(db) as seen:
        batch.step()
        batch.end()
        batch.step()

    about_items = {text: values for text, values in seen.items() if "batch_items" in text and "INSERT" not in text}
    plans = {text: " ".join(plan(db, text, values)) for text, values in about_items.items()}
    assert len(plans) >= 3
    for text, found in plans.items():
        assert "ix_batch_items_" in found or "pk_batch_items" in found or "autoindex_batch_items" in found, (
            text,
            found,
        )
