"""Leases, on both databases: which are renewed, and what happens to runs without one."""

from datetime import timedelta

from sqlalchemy import select, update

from tests.support.life import accept, end, take
from worker.domain import End, Role, Status
from worker.runs.cancel import cancel
from worker.runs.claim import NotClaimed, claim_head
from worker.runs.finish import Ending
from worker.store import Database, dispatchable, leases, messages, teams
from worker.store.columns import db_now, db_time
from worker.store.tables import runs
from worker.team import Team

TEAM = Team(id="t").definition


def announce(db: Database) -> None:
    """A live worker serves team 't'."""
    with db.write() as tx:
        teams.announce(tx, worker="me", versions={"t": "1"}, queues=["runs"])


def row(db: Database, run_id: str) -> object:
    """The row of a run."""
    with db.read() as tx:
        return tx.execute(select(runs).where(runs.c.id == run_id)).one()


def test_a_run_that_its_process_gave_up_runs_out_of_its_lease(db: Database) -> None:
    """The keeper renews the runs that the process executes, not all rows with its name."""
    given_up, kept = accept(db, session="a").run.id, accept(db, session="b").run.id
    for run_id in (given_up, kept):
        take(db, run_id, ttl_s=-1)

    with db.write() as tx:
        leases.renew(tx, [kept], owner="me", ttl_s=60)

    assert claim_head(db, kept, owner="other", ttl_s=60, definition=TEAM) == NotClaimed(End.NOT_FREE, kept)
    assert take(db, given_up, owner="other").attempt == 2


def test_a_cancel_just_before_a_requeue_is_not_lost(db: Database) -> None:
    """The run does not wait for its model: it is claimed at once, and ends."""
    run_id = accept(db).run.id
    claim = take(db, run_id)
    cancel(db, run_id)
    announce(db)

    with db.write() as tx:
        leases.requeue(tx, claim, wait_s=3600, waits_for=None, retried=True)
        sent = dispatchable.take_due(tx, limit=10)

    assert [dispatch.ids["run_id"] for dispatch in sent] == [run_id]
    assert take(db, run_id).cancel_requested


def test_a_late_delivery_does_not_shorten_the_wait_of_a_run(db: Database) -> None:
    """A stopping worker puts back the runs that it was sent, but not runs that wait for their own time."""
    run_id = accept(db).run.id
    claim = take(db, run_id)
    with db.write() as tx:
        leases.requeue(tx, claim, wait_s=3600, waits_for=None, retried=True)
        leases.put_back(tx, run_id, team="t", wait_s=0)

    assert claim_head(db, run_id, owner="other", ttl_s=60, definition=TEAM) == NotClaimed(End.NOT_FREE, run_id)


def test_runs_of_a_team_that_nobody_serves_are_left_alone(db: Database) -> None:
    """They would be sent again and again. Once a worker serves the team, they are sent."""
    run_id = accept(db).run.id
    take(db, run_id, ttl_s=-1)
    with db.write() as tx:
        tx.execute(update(runs).values(dispatched_at=db_time(-60.0)))

    with db.write() as tx:
        before = dispatchable.take_expired(tx, ended_only=False, limit=10)
    announce(db)
    with db.write() as tx:
        after = dispatchable.take_expired(tx, ended_only=False, limit=10)

    assert before == []
    assert [dispatch.queue for dispatch in after] == ["resumed"]


def test_a_lost_dispatch_is_found_by_its_age_and_queue(db: Database) -> None:
    """Only heads that were sent before a time are sent again, each once."""
    announce(db)
    head = accept(db, session="a").run.id
    accept(db, session="a")

    with db.write() as tx:
        now = db_now(tx)
        young = dispatchable.take_lost(tx, resumed=False, before=now - timedelta(seconds=60), limit=10)
        lost = dispatchable.take_lost(tx, resumed=False, before=now, limit=10)
        again = dispatchable.take_lost(tx, resumed=False, before=now, limit=10)
        other = dispatchable.take_lost(tx, resumed=True, before=db_now(tx), limit=10)

    assert (young, again, other) == ([], [], [])
    assert [dispatch.ids["run_id"] for dispatch in lost] == [head]


def test_a_leased_run_goes_to_others_when_its_script_dies(db: Database) -> None:
    """A script's run is leased from its acceptance; no other process can claim it before the lease runs out."""
    announce(db)
    run_id = accept(db, lease=leases.Lease("script", 60)).run.id
    refused = claim_head(db, run_id, owner="other", ttl_s=60, definition=TEAM)

    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(not_before=db_time(-1.0)))
        sent = dispatchable.take_due(tx, limit=10)

    assert refused == NotClaimed(End.NOT_FREE, run_id)
    assert [dispatch.ids["run_id"] for dispatch in sent] == [run_id]
    assert take(db, run_id, owner="other").attempt == 1


def test_many_cancelled_runs_are_passed_in_one_go(db: Database) -> None:
    """Their inputs are written to the history once, in order."""
    first = accept(db, "0").run.id
    cancelled = [accept(db, str(n)).run.id for n in range(1, 50)]
    last = accept(db, "50").run.id
    for run_id in cancelled:
        cancel(db, run_id)

    end(db, take(db, first), Ending(Status.COMPLETED, output="x"))
    claim = take(db, last)

    with db.read() as tx:
        log = messages.page(tx, session_pk=claim.session_pk, after_seq=0, limit=100)
    assert [(m.seq, m.content, m.role) for m in log] == [(n + 1, str(n), Role.USER) for n in range(51)]
    assert claim_head(db, first, owner="x", ttl_s=60, definition=TEAM) == NotClaimed(End.NOT_HEAD, first, last)
