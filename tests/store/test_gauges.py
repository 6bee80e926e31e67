"""Gauges of the whole installation, on both databases: correct, and read from small indexes."""

import re
from typing import Any

from sqlalchemy import select, update

from tests.support.crowd import crowd
from tests.support.life import accept, end, take
from tests.support.plans import plan, statements
from worker.domain import Priority, RunOrder, Status
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending
from worker.settings import Settings
from worker.store import Database, Lease, gauges, summary_jobs, teams
from worker.store.columns import db_time
from worker.store.gauges import Gauges
from worker.store.tables import runs, sessions
from worker.store.tables import summary_jobs as jobs


def read(db: Database) -> Gauges:
    with db.read() as tx:
        return gauges.read(tx)


def change(db: Database, run_id: str, **values: Any) -> None:
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(**values))


def test_an_empty_installation_has_nothing_and_nobody_waits(db: Database) -> None:
    """Every queue is in the result, with 0."""
    found = read(db)

    assert set(found.runs.values()) == {0}
    assert found.oldest_head_s == {"resumed": 0, "runs": 0, "batch": 0}
    assert (found.workers, found.team_workers, found.batches, found.oldest_summary_s) == ({}, {}, {}, 0)


def test_unfinished_runs_are_counted_by_queue_and_status(db: Database) -> None:
    """Ended runs are not counted; a run that was claimed before waits in `resumed`."""
    ended, running, resumed = (accept(db, session=s).run.id for s in "abc")
    accept(db, session="c")
    enqueue(db, RunOrder("t", "x", session_id="d", user_id="u", priority=Priority.BACKGROUND), settings=Settings())
    end(db, take(db, ended), Ending(Status.COMPLETED))
    take(db, running)
    take(db, resumed)
    change(db, resumed, status="queued")

    found = read(db).runs

    assert {of: count for of, count in found.items() if count} == {
        ("runs", "queued"): 1,
        ("runs", "running"): 1,
        ("resumed", "queued"): 1,
        ("batch", "queued"): 1,
    }


def test_a_head_waits_since_it_was_sent_or_its_time_came_or_its_lease_ran_out(db: Database) -> None:
    """A run after a head waits for the head, not for a worker."""
    sent, unserved, lost = (accept(db, session=s).run.id for s in "abc")
    behind = accept(db, session="a").run.id
    change(db, sent, dispatched_at=db_time(-60.0))
    change(db, behind, not_before=db_time(-9000.0))
    assert 59 < read(db).oldest_head_s["runs"] < 80
    change(db, unserved, dispatched_at=None, not_before=db_time(-600.0), waits_for="not_served")
    assert 599 < read(db).oldest_head_s["runs"] < 620
    take(db, lost)
    assert read(db).oldest_head_s["resumed"] == 0
    change(db, lost, lease_until=db_time(-300.0))

    found = read(db).oldest_head_s

    assert 299 < found["resumed"] < 320
    assert found["batch"] == 0


def test_runs_that_wait_for_their_own_time_do_not_wait_for_a_worker(db: Database) -> None:
    """Neither a run with a start time, nor a run that a script executes itself."""
    accept(db, session="a", lease=Lease("script", 60))
    later = accept(db, session="b").run.id
    change(db, later, dispatched_at=None, not_before=db_time(600.0))

    assert read(db).oldest_head_s["runs"] == 0


def test_workers_are_counted_while_they_are_heard_of(db: Database) -> None:
    """A worker that serves several teams counts once per queue."""
    with db.write() as tx:
        teams.announce(tx, worker="a", versions={"t": "1", "u": "1"}, queues=["resumed", "runs"])
        teams.announce(tx, worker="b", versions={"t": "2"}, queues=["runs"])
        teams.announce(tx, worker="c", versions={"t": "2"}, queues=["runs"])
        teams.leave(tx, worker="c")

    found = read(db)

    assert found.workers == {"resumed": 1, "runs": 2}
    assert found.team_workers == {"t": 2, "u": 1}


def test_summaries_that_are_wanted_and_failed_are_told_apart(db: Database) -> None:
    """The oldest job is the one that was requested first; a job that failed for good does not count."""
    for session in "ab":
        accept(db, session=session)
    with db.write() as tx:
        for pk in tx.execute(select(sessions.c.pk)).scalars().all():
            summary_jobs.request_now(tx, pk, through_seq=1)
            job = summary_jobs.claim(tx, pk, team="t", owner="me", ttl_s=60)
            assert job is not None
        tx.execute(update(jobs).values(requested_at=db_time(-100.0), send_at=db_time(-1.0)))
        summary_jobs.fail(tx, _job(tx, pk), code="model_refused", wait_s=None)

    found = read(db)

    assert found.summary_jobs == {"due": 1, "failed": 1}
    assert 99 < found.oldest_summary_s < 120


def _job(tx: Any, pk: int) -> summary_jobs.Job:
    row = tx.execute(select(jobs.c.session_pk, jobs.c.fence, jobs.c.requested_at).where(jobs.c.session_pk == pk)).one()
    return summary_jobs.Job(*row)


def test_no_run_that_has_ended_is_read_and_no_message(db: Database) -> None:
    """Each statement on runs reads an index of unfinished runs only; no table is scanned."""
    crowd(db)

    with statements(db) as seen:
        read(db)

    plans = {s: "\n".join(plan(db, s, p)) for s, p in seen.items()}
    of_runs = [text for s, text in plans.items() if re.search(r"\bruns\b", s)]
    unfinished = {index.name for index in runs.indexes if index.dialect_options["sqlite"]["where"] is not None}
    assert len(of_runs) == 11
    for text in of_runs:
        used = set(re.findall(r"ix_runs_\w+", text))
        assert used
        # That of all statuses is entered at one of the two: then it is as small.
        entered = re.search(r"ix_runs_of_status \(status=|Index Cond: \(\(status\)::text = '(queued|running)'", text)
        assert used <= unfinished | ({"ix_runs_of_status"} if entered else set()), text
    assert not [
        text
        for text in of_runs
        if re.search(r"Seq Scan on (runs|sessions)|SCAN (main\.)?(runs|sessions)(?! USING)", text)
    ]
    assert not any(table in s for s in seen for table in ("messages", "batch_items", "summaries "))
