"""The items of a batch, on both databases: by filters or ids, each once, and only what its key may see."""

from dataclasses import replace

import pytest

from tests.support.batches import Played, end_as, ended_runs, requests
from worker.batches import accept, feed, lifecycle
from worker.batches import plan as planning
from worker.batches.accept import ExplicitItems
from worker.domain import SERVICE, BatchOrder, BatchStatus, Kind, Principal, RunOrder, Selection, Status
from worker.errors import BatchConflict, BatchInvalid, BatchNotFound, IdempotencyConflict, TeamForbidden, UserForbidden
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import Database
from worker.store.tables import sessions as session_rows

RETRY = BatchOrder(kind=Kind.RETRY_FAILED)
ENQUEUE = BatchOrder(kind=Kind.ENQUEUE_RUNS)


def test_a_run_that_was_tried_again_is_not_selected(db: Database) -> None:
    """A failed run that was retried is not retried a second time."""
    first = ended_runs(db, 2)
    batch = Played(db, RETRY)
    batch.step()
    for run_id, status in zip(batch.in_flight(), (Status.COMPLETED, Status.FAILED), strict=True):
        end_as(db, run_id, status)
    second = Played(db, RETRY)

    second.step()

    assert (second.now.planned, lifecycle.items(db, second.id, principal=SERVICE)[0].source_run_id in first) == (
        1,
        False,
    )


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
    """Sessions that match all filters are items; the dry run returns the same count."""
    for n in range(4):
        enqueue(db, RunOrder("t", "x", session_id=f"s{n}", user_id="uv"[n % 2]), settings=Settings())
    with db.write() as tx:
        for n in range(4):
            values = {"name": f"n{n}", "tags": [("even", "odd")[n % 2]], "summary_version": n % 3 * (n != 2) * 2}
            tx.execute(session_rows.update().where(session_rows.c.session_id == f"s{n}").values(**values))
    order = BatchOrder(kind=Kind.REFRESH_SUMMARIES, select=wanted)
    batch = Played(db, order)

    while planning.plan(db, batch.id):
        pass

    shown = [item.session_id for item in lifecycle.items(db, batch.id, principal=SERVICE)]
    assert shown == [f"s{n}" for n in found]
    estimate = accept.estimate(db, order, principal=SERVICE)
    assert (estimate.count, estimate.sample) == (len(found), shown[:5])


def test_planning_goes_on_where_it_was_broken_off(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning continues in pieces and writes each item once, even if sessions are added in between."""
    monkeypatch.setattr(planning, "CHUNK", 3)
    failed = ended_runs(db, 8)
    batch = Played(db, RETRY)

    assert planning.plan(db, batch.id)
    assert (batch.now.planned, batch.now.status) == (3, BatchStatus.CREATED)
    while planning.plan(db, batch.id):
        pass

    shown = lifecycle.items(db, batch.id, principal=SERVICE)
    assert [item.source_run_id for item in shown] == failed
    assert [item.number for item in shown] == list(range(1, 9))


def test_items_can_be_given_in_portions(db: Database) -> None:
    """The batch starts with the last portion. A portion with an unknown, repeated or wrong id is refused whole."""
    failed = ended_runs(db, 3)
    batch = Played(db, RETRY, ExplicitItems(ids=failed[:2], more=True))

    assert batch.step().status is BatchStatus.CREATED
    for ids, problem in ((["run_x"], "1 ids, but only 0"), ([failed[2], failed[2]], "twice")):
        with pytest.raises(BatchInvalid, match=problem):
            accept.add(db, batch.id, ExplicitItems(ids=ids), principal=SERVICE, settings=Settings())
    with pytest.raises(BatchInvalid, match="not in the batch"):
        accept.add(db, batch.id, ExplicitItems(ids=failed[1:]), principal=SERVICE, settings=Settings())
    with pytest.raises(BatchInvalid, match="do not fit"):
        accept.add(db, batch.id, requests(1), principal=SERVICE, settings=Settings())
    accept.add(db, batch.id, ExplicitItems(ids=failed[2:], more=True), principal=SERVICE, settings=Settings())
    accept.add(db, batch.id, ExplicitItems(), principal=SERVICE, settings=Settings())
    assert (batch.now.planned, batch.step().in_flight) == (3, 3)
    with pytest.raises(BatchConflict):
        accept.add(db, batch.id, ExplicitItems(ids=failed[2:]), principal=SERVICE, settings=Settings())


def test_the_same_key_finds_the_same_batch(db: Database) -> None:
    """The same key with another order is refused."""
    made = {"principal": SERVICE, "settings": Settings(), "idempotency_key": "k"}
    batch = accept.create(db, RETRY, **made)  # type: ignore[arg-type]

    assert accept.create(db, RETRY, **made).id == batch.id  # type: ignore[arg-type]
    with pytest.raises(IdempotencyConflict):
        accept.create(db, replace(RETRY, window=7), **made)  # type: ignore[arg-type]
    other = accept.create(db, RETRY, **(made | {"principal": Principal("k", user_id="u")}))  # type: ignore[arg-type]
    assert other.id != batch.id


def test_a_key_sees_and_selects_what_is_its_own(db: Database) -> None:
    """A user's key selects its user's sessions, a team's key those of its teams. Other batches are not found."""
    ended_runs(db, 2)
    users_key, teams_key = Principal("k", user_id="v"), Principal("k", teams=frozenset({"other"}))
    for principal in (users_key, teams_key):
        batch = accept.create(db, RETRY, principal=principal, settings=Settings())
        feed.step(db, batch.id, settings=Settings(), send=list)
        seen = lifecycle.get(db, batch.id, principal=principal)
        assert (seen.planned, seen.status) == (0, BatchStatus.COMPLETED)
        assert lifecycle.get(db, batch.id, principal=SERVICE) == seen
        others = {users_key, teams_key} - {principal}
        with pytest.raises(BatchNotFound):
            lifecycle.get(db, batch.id, principal=others.pop())
    with pytest.raises(UserForbidden):
        accept.create(db, replace(RETRY, select=Selection(user_id="u")), principal=users_key, settings=Settings())
    mine = accept.create(db, ENQUEUE, principal=teams_key, settings=Settings(), items=ExplicitItems(more=True))
    with pytest.raises(TeamForbidden):
        accept.add(db, mine.id, requests(1), principal=SERVICE, settings=Settings())
    with pytest.raises(TeamForbidden):
        accept.create(db, replace(RETRY, select=Selection(team="t")), principal=teams_key, settings=Settings())
