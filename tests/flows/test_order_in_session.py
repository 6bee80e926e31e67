"""What a new run does to the queued runs before it: an interactive one promotes them, `pass` overtakes waiting ones."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support import look
from tests.support.life import end, take
from tests.support.outcomes import execute
from worker import ScriptedModel, Team, clock
from worker.domain import OnBusy, Priority, RunOrder, Status
from worker.process.runtime import Runtime
from worker.runs.cancel import cancel
from worker.runs.enqueue import Accepted, enqueue
from worker.runs.finish import Ending
from worker.settings import Settings
from worker.store import Database, Lease, dispatchable, leases, teams
from worker.store.tables import runs, sessions

DONE = Ending(Status.COMPLETED)
Process = Callable[..., Runtime]


def send(db: Database, text: str, *, kind: str = "interactive", wait_s: float = 0, **fields: Any) -> Accepted:
    """Enqueue a run of team 't' in session 's'; with *wait_s* it waits for its time."""
    lease = fields.pop("lease", None)
    not_before = clock.now() + timedelta(seconds=wait_s) if wait_s else None
    order = RunOrder("t", text, session_id="s", user_id="u", priority=Priority(kind), not_before=not_before, **fields)
    return enqueue(db, order, settings=Settings(), lease=lease)


def sent(accepted: Accepted) -> list[tuple[str, object]]:
    """Return the queue and the run of each dispatch."""
    return [(dispatch.queue, dispatch.ids["run_id"]) for dispatch in accepted.dispatches]


def order_of(db: Database) -> list[str]:
    """Return the inputs of the session's unfinished runs, in the order in which they will execute."""
    unfinished = runs.c.status.in_(("queued", "running"))
    with db.read() as tx:
        rows = tx.execute(select(runs.c.input, runs.c.position).where(unfinished).order_by(runs.c.position)).all()
        head = tx.execute(select(runs.c.input).join(sessions, sessions.c.head_run_id == runs.c.id)).scalar_one()
    assert head == rows[0].input
    assert [row.position for row in rows] == list(range(rows[0].position, rows[0].position + len(rows)))
    return [row.input for row in rows]


def test_an_interactive_run_promotes_a_background_head(db: Database) -> None:
    """The head goes to the interactive queue in the accepting transaction, and stays with it."""
    head = send(db, "nightly", kind="background")

    hello = send(db, "hello")

    assert sent(head) == [("batch", head.run.id)]
    assert sent(hello) == [("runs", head.run.id)]
    assert look.row(db, head.run.id).priority == "interactive"
    assert sent(send(db, "hello again")) == [], "it is promoted once"


def test_each_background_run_before_an_interactive_one_is_promoted(db: Database) -> None:
    """Also those that are not head yet; a background run behind it stays one."""
    first = send(db, "one")
    before = [send(db, str(n), kind="background").run.id for n in range(3)]
    cancel(db, before[1])
    last = send(db, "hello")
    behind = send(db, "later", kind="background")

    end(db, take(db, first.run.id), DONE)
    end(db, take(db, before[0]), DONE)
    end(db, take(db, before[2]), DONE)

    assert [look.row(db, run_id).priority for run_id in (before[0], before[2])] == ["interactive"] * 2
    assert look.row(db, behind.run.id).priority == "background"
    assert sent(first) == [("runs", first.run.id)]
    assert sent(last) == []


def test_a_promoted_head_that_was_started_goes_to_the_resumed(db: Database) -> None:
    """One that executes is left alone; one that was handed over is sent to the queue that workers ask first."""
    head = send(db, "nightly", kind="background")
    claim = take(db, head.run.id)
    executing = send(db, "one")
    with db.write() as tx:
        tx.execute(runs.update().values(priority="background"))
        leases.requeue(tx, claim, wait_s=None, waits_for=None, retried=False)

    handed_over = send(db, "two")

    assert sent(executing) == []
    assert sent(handed_over) == [("resumed", head.run.id)]


def test_a_promoted_head_that_waits_for_its_time_is_sent_when_it_comes(db: Database) -> None:
    """Not before, and to the interactive queue, by any sweep."""
    head = send(db, "nightly", kind="background", wait_s=3600)
    waits = send(db, "hello")
    with db.write() as tx:
        teams.announce(tx, worker="w", versions={"t": "1"}, queues=["runs"])
        tx.execute(runs.update().where(runs.c.id == head.run.id).values(not_before=clock.now() - timedelta(seconds=1)))

    with db.write() as tx:
        due = dispatchable.take_due(tx, limit=10)

    assert sent(waits) == []
    assert [(d.queue, d.ids["run_id"]) for d in due] == [("runs", head.run.id)]


def test_a_run_of_a_script_promotes_too(db: Database) -> None:
    """`team.run()` behind a background head: its process would otherwise wait for the batch workers."""
    head = send(db, "nightly", kind="background")

    script = send(db, "hello", lease=Lease("script", 15))

    assert sent(script) == [("runs", head.run.id)]


def test_pass_goes_before_a_head_that_waits_for_its_time(db: Database) -> None:
    """The new run is the head and is sent; the waiting one is behind it, and keeps its time."""
    later = send(db, "later", wait_s=3600)

    now = send(db, "now", on_busy=OnBusy.PASS)

    assert sent(now) == [("runs", now.run.id)]
    assert (now.run.position, order_of(db)) == (1, ["now", "later"])
    end(db, take(db, now.run.id), DONE)
    assert look.row(db, later.run.id).dispatched_at is None
    assert order_of(db) == ["later"]


@pytest.mark.parametrize("kind", ["interactive", "background"])
def test_pass_keeps_the_order_of_all_others(db: Database, kind: str) -> None:
    """What was accepted before and can execute goes first; the waiting runs keep their order behind it."""
    send(db, "later 1", wait_s=3600, kind=kind)
    second = send(db, "two", kind="background")
    send(db, "later 2", wait_s=3600)
    send(db, "four")

    new = send(db, "new", on_busy=OnBusy.PASS)

    assert order_of(db) == ["two", "four", "new", "later 1", "later 2"]
    assert sent(new) == [("runs", second.run.id)]
    assert new.run.position == 3


def test_pass_leaves_what_has_begun_or_waits_for_another_reason(db: Database) -> None:
    """A run that executes, waits for its model, or is held by a script keeps its position."""
    first = send(db, "one")
    claim = take(db, first.run.id)
    send(db, "script", lease=Lease("script", 60))
    send(db, "later", wait_s=3600)
    send(db, "now", on_busy=OnBusy.PASS)
    assert order_of(db) == ["one", "script", "now", "later"]
    with db.write() as tx:
        leases.requeue(tx, claim, wait_s=60, waits_for="model_unavailable", retried=True)

    again = send(db, "again", on_busy=OnBusy.PASS)

    assert (sent(again), order_of(db)) == ([], ["one", "script", "now", "again", "later"])


def test_pass_keeps_the_text_of_a_run_that_was_cancelled_in_the_queue(db: Database) -> None:
    """It is before the new run: its input becomes a message when the head passes it."""
    send(db, "later", wait_s=3600)
    cancelled = send(db, "cancelled")
    cancel(db, cancelled.run.id)

    now = send(db, "now", on_busy=OnBusy.PASS)
    end(db, take(db, now.run.id), DONE)

    assert [m.content for m in look.log(db, cancelled.run.id)] == ["cancelled"]
    assert look.row(db, cancelled.run.id).first_seq < look.row(db, now.run.id).first_seq
    assert order_of(db) == ["later"]


def test_a_passed_session_keeps_its_history_whole(process: Process) -> None:
    """The passed run executes when its time has come, with what was said meanwhile in its context."""
    model = ScriptedModel(["first", "now too", "late"])
    runtime = process(Team(id="t", model=model, add_history_to_context=True, num_history_runs=9))
    later = send(runtime.db, "later", wait_s=3600)
    now = send(runtime.db, "now", on_busy=OnBusy.PASS)
    more = send(runtime.db, "more", on_busy=OnBusy.PASS)
    assert execute(runtime, now.run.id, "t") == "completed"
    assert execute(runtime, more.run.id, "t") == "completed"
    with runtime.db.write() as tx:
        tx.execute(runs.update().values(not_before=None))

    assert execute(runtime, later.run.id, "t") == "completed"

    assert [m.content for m in model.requests[-1].messages] == ["now", "first", "more", "now too", "later"]
    with runtime.db.read() as tx:
        session_pk = tx.execute(select(sessions.c.pk)).scalar_one()
    look.check_history(runtime.db, session_pk)
