"""The process that renews the leases of a worker while no Python code runs in it."""

from collections.abc import Iterator
from datetime import datetime

import pytest
from sqlalchemy import select

from tests.support import look
from tests.support.life import accept, take
from tests.support.system import wait_until
from worker.process.lease_guard import LeaseGuard
from worker.process.shared_leases import MOST, KeptLease, SharedLeases
from worker.store import Database, summary_jobs, tables

TTL_S = 2.0


@pytest.fixture
def guard(database_url: str) -> Iterator[LeaseGuard]:
    """The guard of a worker in which nothing runs from now on."""
    made = LeaseGuard(database_url, owner="me", ttl_s=TTL_S, alone=True)
    made._ticker.close()
    yield made
    made.close()


def test_the_guard_renews_the_leases_of_a_worker_that_does_not_run(db: Database, guard: LeaseGuard) -> None:
    """Of those that it keeps, of both kinds. Its own rows only: the fence has moved on for the others."""
    kept, lost, given_up = (accept(db, session=session).run.id for session in "abc")
    before = {run_id: take(db, run_id, ttl_s=TTL_S).lease_until for run_id in (kept, given_up)}
    before[lost] = take(db, lost, ttl_s=TTL_S, owner="other").lease_until
    session_pk = look.row(db, kept).session_pk
    with db.write() as tx:
        summary_jobs.request_now(tx, session_pk, through_seq=1)
        job = summary_jobs.claim(tx, session_pk, team="t", owner="me", ttl_s=TTL_S)
    assert job is not None

    def lease_of_job() -> datetime:
        with db.read() as tx:
            return tx.execute(select(tables.summary_jobs.c.held_until)).scalar_one()

    first = lease_of_job()
    deadline = float("inf")
    with (
        guard.shared.keeping("leases", kept, deadline=deadline),
        guard.shared.keeping("leases", lost, deadline=deadline),
        guard.shared.keeping("summary_jobs", session_pk, deadline=deadline),
    ):
        wait_until(
            lambda: look.row(db, kept).lease_until != before[kept] and lease_of_job() != first,
            description="the guard renews",
        )

    assert [look.row(db, run_id).lease_until == before[run_id] for run_id in (lost, given_up)] == [True, True]
    assert look.row(db, kept).fence == 1


def test_leases_are_shown_while_they_are_kept() -> None:
    """With the time since when. A worker that keeps more than there is room for keeps them without its guard."""
    shared = SharedLeases.create()
    other = SharedLeases(shared.fd)

    with shared.keeping("leases", "run_1", deadline=5.0), shared.keeping("summary_jobs", 7, deadline=6.0):
        seen = other.leases()
        numbers = [shared.keeping("leases", f"run_{n}", deadline=1.0) for n in range(MOST)]
        for number in numbers:
            number.__enter__()
        full = len(other.leases())
        for number in numbers:
            number.__exit__(None, None, None)

    assert [(lease.kind, lease.key, lease.deadline) for lease in seen] == [
        ("leases", "run_1", 5.0),
        ("summary_jobs", 7, 6.0),
    ]
    assert isinstance(seen[0], KeptLease)
    assert seen[0].since > 0
    assert full == MOST
    assert other.leases() == []
