"""`on_busy`: what becomes of a run whose session is busy, and of the text of everybody who was there before."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import look
from tests.support.life import end, take
from worker import clock
from worker.domain import SERVICE, BatchOrder, Claim, Draft, OnBusy, Priority, Role, RunOrder, Status
from worker.domain.batch import Kind
from worker.domain.run_order import BatchRun
from worker.errors import IdempotencyConflict, LeaseLost, QueueFull, SessionBusy
from worker.loop.definition import Definition
from worker.runs.cancel import cancel
from worker.runs.enqueue import Accepted, enqueue
from worker.runs.finish import Ending
from worker.runs.retry import again
from worker.runs.session_history import SessionHistory
from worker.settings import Settings
from worker.store import Database, batches, leases
from worker.store.erasure import erase_session_of_run
from worker.store.tables import batch_items, idempotency, runs, sessions
from worker.team import Team

ANSWER = Draft(Role.ASSISTANT, "t", "an answer")
REMEMBERS: Definition = Team(id="t", add_history_to_context=True, num_history_runs=50).definition


def order(text: str, on_busy: str, *, session: str = "s", **fields: Any) -> RunOrder:
    return RunOrder("t", text, session_id=session, user_id="u", on_busy=OnBusy(on_busy), **fields)


def send(
    db: Database, text: str, on_busy: str, *, key: str | None = None, settings: Settings | None = None
) -> Accepted:
    """Enqueue a run of team 't' for user 'u' in session 's'."""
    return enqueue(db, order(text, on_busy), settings=settings or Settings(), idempotency_key=key)


def head(db: Database) -> str | None:
    with db.read() as tx:
        found: str | None = tx.execute(select(sessions.c.head_run_id)).scalar_one()
    return found


def shown(db: Database, claim: Claim) -> list[str]:
    """Return what a run sees of its session's past."""
    found = SessionHistory(db, claim).history(REMEMBERS, context_tokens=10_000)
    return [message.content for message in found.messages]


@pytest.mark.parametrize("on_busy", list(OnBusy))
def test_a_session_that_is_not_busy_takes_any_run(db: Database, on_busy: OnBusy) -> None:
    """With nothing to wait for, all strategies are the same."""
    first = send(db, "one", on_busy)
    end(db, take(db, first.run.id), Ending(Status.COMPLETED, [ANSWER]))

    second = send(db, "two", on_busy)

    assert [d.ids["run_id"] for d in second.dispatches] == [second.run.id]
    assert head(db) == second.run.id
    assert second.run.position == 2


def test_reject_writes_nothing(db: Database) -> None:
    """Neither a run nor the key: the same order under the same key is taken later."""
    first = send(db, "one", "enqueue")

    with pytest.raises(SessionBusy, match=first.run.id):
        send(db, "two", "reject", key="k")

    with db.read() as tx:
        assert tx.execute(select(idempotency)).all() == []
        assert tx.execute(select(sessions.c.run_count)).scalar_one() == 1
    end(db, take(db, first.run.id), Ending(Status.COMPLETED, [ANSWER]))
    taken = send(db, "two", "reject", key="k")
    again = send(db, "two", "reject", key="k")
    assert (taken.run.position, again.run.id, again.repeated) == (2, taken.run.id, True)


def test_interrupt_keeps_what_the_head_wrote(db: Database) -> None:
    """A queued head is cancelled in the accepting transaction; the new run is the head, and sees the other's text."""
    first = send(db, "one", "enqueue")

    second = send(db, "two", "interrupt")

    assert look.row(db, first.run.id).status == "cancelled"
    assert [d.ids["run_id"] for d in second.dispatches] == [second.run.id]
    assert shown(db, take(db, second.run.id)) == ["one"]


def test_rollback_leaves_the_head_out_of_later_contexts(db: Database) -> None:
    """Its process is asked to end it; its text stays in the history, and no later run sees any of it."""
    first = send(db, "one", "enqueue")
    claim = take(db, first.run.id)

    second = send(db, "two", "rollback")

    assert second.dispatches == ()
    row = look.row(db, first.run.id)
    assert (row.status, row.excluded, row.cancel_requested_at is not None) == ("running", True, True)
    end(db, claim, Ending(Status.CANCELLED, [ANSWER]))
    assert [m.content for m in look.log(db, first.run.id)] == ["one", "an answer"]
    assert shown(db, take(db, second.run.id)) == []


@pytest.mark.parametrize("on_busy", ["interrupt", "rollback"])
def test_the_head_of_a_lost_process_is_ended_at_once(db: Database, on_busy: str) -> None:
    """Its lease has run out: nobody is there to be asked. The runs that were queued before go first."""
    first = send(db, "one", "enqueue")
    claim = take(db, first.run.id, ttl_s=-1)
    second = send(db, "two", "enqueue")

    third = send(db, "three", on_busy)

    assert look.row(db, first.run.id).status == "cancelled"
    assert [d.ids["run_id"] for d in third.dispatches] == [second.run.id]
    with pytest.raises(LeaseLost):
        end(db, claim, Ending(Status.COMPLETED, [ANSWER]))


def test_coalesce_joins_the_newest_queued_run_once(db: Database) -> None:
    """By a blank line. The same order under the same key finds the run that it joined, and joins nothing again."""
    send(db, "one", "enqueue")
    newest = send(db, "two", "enqueue")

    joined = send(db, "three", "coalesce", key="k")
    again = send(db, "three", "coalesce", key="k")

    assert {joined.run.id, again.run.id} == {newest.run.id}
    assert (again.repeated, joined.dispatches, again.dispatches) == (True, (), ())
    assert look.row(db, newest.run.id).input == "two\n\nthree"
    with pytest.raises(IdempotencyConflict):
        send(db, "four", "coalesce", key="k")


def test_coalesce_never_joins_a_run_that_was_claimed(db: Database) -> None:
    """Neither a running one nor one that waits to be tried again: their input is a message already."""
    first = send(db, "one", "enqueue")
    claim = take(db, first.run.id)

    second = send(db, "two", "coalesce")
    with db.write() as tx:
        leases.requeue(tx, claim, wait_s=60, waits_for="model_unavailable", retried=True)
    send(db, "three", "coalesce")

    assert look.row(db, first.run.id).input == "one"
    assert look.row(db, second.run.id).input == "two\n\nthree"


KIND: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"a": 1}},
    "timeout": {"timeout": 9.0},
    "priority": {"priority": Priority.BACKGROUND},
    "time": {"not_before": clock.now() + timedelta(hours=1)},
}


@pytest.mark.parametrize("option", KIND)
def test_coalesce_joins_only_a_run_of_its_kind(db: Database, option: str) -> None:
    """An option of the new run is kept: where the queued run has another, the new one is queued behind it."""
    first = enqueue(db, order("one", "enqueue"), settings=Settings())

    second = enqueue(db, order("two", "coalesce", **KIND[option]), settings=Settings())

    assert second.run.position == 2
    assert (look.row(db, first.run.id).input, look.row(db, second.run.id).input) == ("one", "two")
    row = look.row(db, second.run.id)
    assert (row.metadata, row.timeout_s) == (KIND[option].get("metadata", {}), KIND[option].get("timeout"))


@pytest.mark.parametrize("option", ["metadata", "timeout", "time", "priority"])
def test_coalesce_leaves_the_options_of_the_run_that_it_joins(db: Database, option: str) -> None:
    """Metadata and timeout hold for a text that names none; a run with a time or priority of its own is not joined."""
    first = enqueue(db, order("one", "enqueue", **KIND[option]), settings=Settings())

    second = enqueue(db, order("two", "coalesce"), settings=Settings())
    same = enqueue(db, order("three", "coalesce", **KIND[option]), settings=Settings())

    joins = option in ("metadata", "timeout")
    assert (second.run.id == first.run.id) is joins
    assert (same.run.id == first.run.id) is joins
    assert look.row(db, first.run.id).input == ("one\n\ntwo\n\nthree" if joins else "one")


def test_coalesce_joins_neither_retries_nor_items_of_batches(db: Database) -> None:
    """A retry repeats the input of its run, and an item's result is that of its own request."""
    first = send(db, "one", "enqueue")
    cancel(db, first.run.id)
    with db.write() as tx:
        repeated = again(tx, first.run, settings=Settings(), priority=Priority.INTERACTIVE).run.id

    send(db, "two", "coalesce")
    item = enqueue(
        db, BatchRun("t", "three", session_id="s", user_id="u", on_busy=OnBusy.COALESCE), settings=Settings()
    )
    with db.write() as tx:
        made = {"batch_id": "b", "number": 1, "tries": 1, "run_id": item.run.id}
        batch = BatchOrder(kind=Kind.ENQUEUE_RUNS)
        batches.add(tx, "b", batch, principal=SERVICE, request_key=None, request_hash="")
        tx.execute(batch_items.insert().values(**made))
    background = enqueue(db, order("four", "coalesce", priority=Priority.BACKGROUND), settings=Settings())

    assert look.row(db, repeated).input == "one"
    assert [look.row(db, run.run.id).input for run in (item, background)] == ["three", "four"]


def test_coalesce_queues_what_would_grow_too_large(db: Database) -> None:
    """An input is bounded, joined or not; the text is kept in a run of its own."""
    settings = Settings(max_input_bytes=20)
    first = send(db, "é" * 8, "enqueue", settings=settings)

    second = send(db, "ab", "coalesce", settings=settings)
    third = send(db, "abc", "coalesce", settings=settings)

    assert second.run.id == first.run.id
    assert third.run.position == 2
    assert look.row(db, first.run.id).input == "é" * 8 + "\n\nab"


@pytest.mark.parametrize("on_busy", ["enqueue", "interrupt", "rollback"])
def test_a_full_session_takes_no_run(db: Database, on_busy: str) -> None:
    """The head, and as many behind it as the bound says. What repeats an order that was taken finds its run."""
    settings = Settings(max_queued_per_session=2)
    first = send(db, "0", "enqueue", key="0", settings=settings)
    for n in (1, 2):
        send(db, str(n), "enqueue", key=str(n), settings=settings)

    with pytest.raises(QueueFull):
        send(db, "3", on_busy, settings=settings)

    assert send(db, "2", "enqueue", key="2", settings=settings).repeated
    assert look.row(db, first.run.id).status == "queued"
    assert send(db, "3", "coalesce", settings=settings).run.position == 3


def test_a_key_can_be_used_again_while_its_session_is_erased(db: Database) -> None:
    """Any number of repeats beside a deletion: each finds the run or makes a new one, and none fails."""

    def repeat(_n: int) -> str:
        return send(db, "one", "enqueue", key="k").run.id

    def delete(_n: int) -> str:
        with db.write() as tx:
            found = tx.execute(select(runs.c.id)).scalars().first()
            if found is not None:
                erase_session_of_run(tx, found)
        return ""

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: (delete if n % 4 == 0 else repeat)(n), range(200)))

    assert all(found[n] for n in range(200) if n % 4)
