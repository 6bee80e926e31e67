"""Batches, on both databases: planned whole, begun once, never more than the window, counted right, ended once."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from tests.support.batches import Played, end_as, ended_runs, requests
from tests.support.life import accept
from tests.support.plans import plan, statements
from worker.batches import feed, life, orders
from worker.batches import plan as planning
from worker.batches.orders import Given
from worker.domain.batch import BatchOrder, BatchStatus, Kind, Limits, PausedBy, Price, Selection
from worker.domain.principal import SERVICE, Principal
from worker.domain.run import Status
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound, IdempotencyConflict, TeamForbidden, UserForbidden
from worker.settings import Settings
from worker.store import sessions, users
from worker.store.engine import Database
from worker.store.tables import batch_items, runs
from worker.store.tables import sessions as session_rows

RETRY = BatchOrder(Kind.RETRY_FAILED)
ENQUEUE = BatchOrder(Kind.ENQUEUE_RUNS)


def count(db: Database, table: object) -> int:
    """Return how many rows a table has."""
    with db.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_a_batch_is_planned_begun_and_ended(db: Database) -> None:
    """Every failed run again, at the end of its session, in the background, once."""
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
    assert done.finished_at is not None
    assert batch.statuses() == ["completed"] * 3
    assert batch.step() == done


def test_never_more_than_the_window_is_in_flight(db: Database) -> None:
    """And each item is begun once, in its order."""
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
    """No run is made for an item that is not noted as begun, and none is noted without its run."""
    batch = Played(db, ENQUEUE, requests(5))
    begin = feed.batch_items.begin

    def dies(*args: object, **kwargs: object) -> None:
        begin(*args, **kwargs)  # type: ignore[arg-type]
        if args[2] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(feed.batch_items, "begin", dies)
    with pytest.raises(KeyboardInterrupt):
        batch.step()
    monkeypatch.undo()

    assert (count(db, runs), batch.now.fed) == (0, 0)
    assert (batch.step().fed, count(db, runs)) == (5, 5)


def test_a_canary_goes_first_and_waits_for_a_yes(db: Database) -> None:
    """A share of the items; the rest is begun when somebody resumes the batch."""
    batch = Played(db, replace(ENQUEUE, canary="25%"), requests(10))

    assert (batch.step().in_flight, batch.now.canary) == (3, 3)
    batch.end()
    paused = batch.step()
    assert (paused.status, paused.paused_by, paused.ended) == (BatchStatus.PAUSED, PausedBy.CANARY, 3)
    assert batch.step() == paused
    life.resume(db, batch.id, principal=SERVICE)
    assert (batch.step().status, batch.now.in_flight) == (BatchStatus.RUNNING, 7)


def test_a_budget_pauses_the_batch_before_it_is_passed(db: Database) -> None:
    """In tokens and in money; it goes on with a higher one, and not without."""
    for limits in (Limits(budget_tokens=35), Limits(budget_cost=0.0035)):
        order = replace(ENQUEUE, limits=limits, prices={"*": Price(input=100.0)}, window=3)
        batch = Played(db, order, requests(20))
        while batch.step().status is BatchStatus.RUNNING:
            batch.end()

        paused = batch.now
        assert (paused.paused_by, paused.ended, paused.spent.usage.input_tokens) == (PausedBy.BUDGET, 3, 30)
        assert paused.spent.cost == pytest.approx(0.003)
        with pytest.raises(BatchInvalid, match="name a higher one"):
            life.resume(db, batch.id, principal=SERVICE)
        life.resume(db, batch.id, principal=SERVICE, budget_tokens=1000, budget_cost=1.0)
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
    """The minute is the database's, and is kept over a crash."""
    batch = Played(db, replace(ENQUEUE, limits=limits), requests(30))

    for _ in range(12):
        batch.step()
        batch.end()

    assert (batch.step().ended, batch.now.status) == (begun, BatchStatus.RUNNING)


def test_pause_resume_and_cancel_are_at_once(db: Database) -> None:
    """Paused, it begins nothing; cancelled, its queued runs end with it."""
    batch = Played(db, replace(ENQUEUE, window=2), requests(6))
    batch.step()

    assert life.pause(db, batch.id, principal=SERVICE).paused_by is PausedBy.REQUEST
    batch.end()
    assert (batch.step().status, batch.now.ended, batch.now.in_flight) == (BatchStatus.PAUSED, 2, 0)
    assert life.resume(db, batch.id, principal=SERVICE).status is BatchStatus.RUNNING
    assert batch.step().in_flight == 2
    assert life.cancel(db, batch.id, principal=SERVICE, send=batch.sent.extend).status is BatchStatus.CANCELLED
    assert batch.in_flight() == []
    done = batch.step()
    assert (done.outcomes, done.finished_at is not None) == ({"completed": 2, "cancelled": 2}, True)
    assert batch.statuses() == ["completed"] * 2 + ["cancelled"] * 2 + ["waiting"] * 2
    for act in (life.pause, life.resume, life.retry):
        with pytest.raises(BatchConflict):
            act(db, batch.id, principal=SERVICE)


def test_what_failed_is_tried_again(db: Database) -> None:
    """A new run that names the one before; what was completed is left alone."""
    batch = Played(db, ENQUEUE, requests(4))
    batch.step()
    first = batch.in_flight()
    for run_id, status in zip(first, (Status.COMPLETED, Status.FAILED) * 2, strict=True):
        end_as(db, run_id, status)
    assert (batch.step().status, batch.now.outcomes) == (BatchStatus.COMPLETED, {"completed": 2, "failed": 2})

    assert life.retry(db, batch.id, principal=SERVICE).status is BatchStatus.RUNNING
    assert (batch.now.ended, batch.now.outcomes) == (2, {"completed": 2})
    batch.step()
    second = batch.in_flight()
    batch.end()

    assert (batch.step().status, batch.now.outcomes) == (BatchStatus.COMPLETED, {"completed": 4})
    with db.read() as tx:
        again = tx.execute(select(runs.c.retry_of).where(runs.c.id.in_(second)).order_by(runs.c.id)).scalars()
        assert list(again) == [first[1], first[3]]
    assert [item.tries for item in life.items(db, batch.id, principal=SERVICE)] == [1, 2, 1, 2]


def test_an_item_that_cannot_be_begun_has_failed_with_that(db: Database) -> None:
    """Its error is told, the others go on; what is gone is gone."""
    accept(db, session="taken")
    order = orders.enqueue.Order("other", "hello", "taken", "u")
    given = Given(requests=[orders.Request("a", order), *requests(1).requests])
    refused = Played(db, ENQUEUE, given)
    failed = ended_runs(db, 2)
    again = Played(db, RETRY)
    planning.plan(db, again.id)
    with db.write() as tx:
        sessions.erase_of_run(tx, failed[0])

    assert (refused.step().outcomes, refused.now.in_flight) == ({"failed": 1}, 1)
    item = life.items(db, refused.id, principal=SERVICE)[0]
    assert (item.status, item.error_code, item.custom_id) == ("failed", "session_of_other_team", "a")
    assert (again.step().outcomes, again.statuses()) == ({"gone": 1}, ["gone", "queued"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Selection(), [0, 1, 2, 3]),
        (Selection(user_id="v"), [1, 3]),
        (Selection(name="n2"), [2]),
        (Selection(tag="odd"), [1, 3]),
        (Selection(user_id="v", tag="even"), []),
        (Selection(team="t"), [0, 1, 2, 3]),
        (Selection(team="other"), []),
        (Selection(summary_below=2), [0, 2, 3]),
    ],
    ids=str,
)
def test_sessions_are_selected_by_filters(db: Database, wanted: Selection, found: list[int]) -> None:
    """Those that meet all of them, and the dry run tells the same."""
    for n in range(4):
        orders.enqueue.enqueue(db, orders.enqueue.Order("t", "x", f"s{n}", "uv"[n % 2]), settings=Settings())
    with db.write() as tx:
        for n in range(4):
            values = {"name": f"n{n}", "tags": [("even", "odd")[n % 2]], "summary_version": n % 3 * (n != 2) * 2}
            tx.execute(session_rows.update().where(session_rows.c.session_id == f"s{n}").values(**values))
    order = BatchOrder(Kind.REFRESH_SUMMARIES, wanted)
    batch = Played(db, order)

    while planning.plan(db, batch.id):
        pass

    shown = [item.session_id for item in life.items(db, batch.id, principal=SERVICE)]
    assert shown == [f"s{n}" for n in found]
    told = orders.estimate(db, order, principal=SERVICE)
    assert (told.count, told.sample) == (len(found), shown[:5])


def test_planning_goes_on_where_it_was_broken_off(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, each item once, whatever was added meanwhile."""
    monkeypatch.setattr(planning, "PIECE", 3)
    failed = ended_runs(db, 8)
    batch = Played(db, RETRY)

    assert planning.plan(db, batch.id)
    assert (batch.now.planned, batch.now.status) == (3, BatchStatus.CREATED)
    while planning.plan(db, batch.id):
        pass

    shown = life.items(db, batch.id, principal=SERVICE)
    assert [item.source_run_id for item in shown] == failed
    assert [item.number for item in shown] == list(range(1, 9))


def test_items_can_be_given_in_portions(db: Database) -> None:
    """It begins with the last; ids that are unknown, doubled or of the wrong kind are refused whole."""
    failed = ended_runs(db, 3)
    batch = Played(db, RETRY, Given(ids=failed[:2], more=True))

    assert batch.step().status is BatchStatus.CREATED
    for ids, problem in ((["run_x"], "of which 0"), ([failed[2], failed[2]], "twice")):
        with pytest.raises(BatchInvalid, match=problem):
            orders.add(db, batch.id, Given(ids=ids), principal=SERVICE, settings=Settings())
    with pytest.raises(BatchInvalid, match="do not fit"):
        orders.add(db, batch.id, requests(1), principal=SERVICE, settings=Settings())
    orders.add(db, batch.id, Given(ids=failed[2:]), principal=SERVICE, settings=Settings())
    assert (batch.now.planned, batch.step().in_flight) == (3, 3)
    with pytest.raises(BatchConflict):
        orders.add(db, batch.id, Given(ids=failed[2:]), principal=SERVICE, settings=Settings())


def test_the_same_key_finds_the_same_batch(db: Database) -> None:
    """And with another order it is refused."""
    made = {"principal": SERVICE, "settings": Settings(), "idempotency_key": "k"}
    batch = orders.create(db, RETRY, **made)  # type: ignore[arg-type]

    assert orders.create(db, RETRY, **made).id == batch.id  # type: ignore[arg-type]
    with pytest.raises(IdempotencyConflict):
        orders.create(db, replace(RETRY, window=7), **made)  # type: ignore[arg-type]
    other = orders.create(db, RETRY, **(made | {"principal": Principal("k", user_id="u")}))  # type: ignore[arg-type]
    assert other.id != batch.id


def test_a_key_sees_and_selects_what_is_its_own(db: Database) -> None:
    """A user's key its user's sessions, one of teams these teams'; another's batch is one that is not there."""
    ended_runs(db, 2)
    users_key, teams_key = Principal("k", user_id="v"), Principal("k", teams=frozenset({"other"}))
    for principal in (users_key, teams_key):
        batch = orders.create(db, RETRY, principal=principal, settings=Settings())
        feed.step(db, batch.id, settings=Settings(), send=list)
        seen = life.get(db, batch.id, principal=principal)
        assert (seen.planned, seen.status) == (0, BatchStatus.COMPLETED)
        assert life.get(db, batch.id, principal=SERVICE) == seen
        others = {users_key, teams_key} - {principal}
        with pytest.raises(BatchNotFound):
            life.get(db, batch.id, principal=others.pop())
    with pytest.raises(UserForbidden):
        orders.create(db, replace(RETRY, select=Selection(user_id="u")), principal=users_key, settings=Settings())
    with pytest.raises(TeamForbidden):
        orders.create(db, replace(RETRY, select=Selection(team="t")), principal=teams_key, settings=Settings())


def test_what_a_user_has_asked_for_is_erased_with_the_user(db: Database) -> None:
    """Texts that wait in items go; an item that comes up then is gone."""
    given = Given(requests=[orders.Request(None, orders.enqueue.Order("t", "secret", user_id=user)) for user in "uv"])
    batch = Played(db, ENQUEUE, given)
    own = orders.create(db, RETRY, principal=Principal("k", user_id="u"), settings=Settings())

    with db.write() as tx:
        users.erase_rest(tx, "u")

    with db.read() as tx:
        assert [row.request is None for row in tx.execute(select(batch_items).order_by(batch_items.c.number))] == [
            True,
            False,
        ]
    with pytest.raises(BatchNotFound):
        life.get(db, own.id, principal=SERVICE)
    assert batch.step().outcomes == {"gone": 1}
    assert batch.statuses() == ["gone", "queued"]


def test_a_step_reads_indexes_that_hold_what_is_left(db: Database) -> None:
    """So an item costs the same from the first to the last."""
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
