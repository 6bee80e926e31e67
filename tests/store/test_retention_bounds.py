"""Removing much that has expired: small transactions, ranges of indexes, and no waiting for locks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, text

from tests.support.ageing import (
    age,
    left,
    remove,
    runs_left,
    talk,
)
from tests.support.batches import Played, end_as
from tests.support.plans import plan, statements
from tests.support.postgres import PostgresServer
from worker.domain import BatchOrder, Kind, Status
from worker.retention import LOOK, SIZE, TOGETHER, Removal
from worker.runs.replay import replay_in
from worker.settings import Settings
from worker.store import Database, retention, sessions
from worker.store.erasure import Erased
from worker.store.tables import sessions as session_rows

MONTH = {"keep_sessions_days": 30}
RUNS = {"keep_runs_days": 30}


def test_two_that_remove_at_once_remove_each_session_once(db: Database) -> None:
    """Each run is removed once too."""
    for n in range(60):
        talk(db, session=f"s{n}")
        age(db, session=f"s{n}", days=40)

    with ThreadPoolExecutor(3) as pool:
        kept = [MONTH, MONTH, RUNS]
        removed = sum((done.result() for done in [pool.submit(remove, db, **one) for one in kept]), Erased())
    again = remove(db, **MONTH)

    assert removed.sessions + again.sessions == 60
    assert removed.runs + again.runs == 60
    assert left(db) == []


def test_a_session_that_somebody_holds_is_passed_by(postgres: PostgresServer) -> None:
    """The removal does not wait for it, and removes the others."""
    url = postgres.new_database()
    db = Database(url)
    for session in ("held", "free"):
        talk(db, session=session)
        age(db, session=session, days=40)

    with db.write() as other:
        sessions.lock_by_id(other, user_id="u", session_id="held")
        remove(db, **RUNS)
        removed = remove(db, **MONTH)

    assert (removed.sessions, left(db)) == (1, ["held"])
    db.close()
    postgres.drop(url)


@pytest.mark.extended
def test_each_transaction_is_small_however_much_is_due(db: Database) -> None:
    """With 100,000 sessions, runs and batches, each transaction has a bounded number of rows and statements."""
    crowd(db, 100_000)
    talk(db, 30, session="long")
    age(db, session="long", days=40)
    removal = Removal(db, Settings(**MONTH, **RUNS), erase=list)

    with statements(db) as seen:
        pieces = [piece for piece, _ in zip(removal.round(), range(25), strict=False)]

    assert [piece.sessions for piece in pieces] == [TOGETHER] * 25
    assert all(piece.messages <= SIZE for piece in pieces)
    assert TOGETHER * 25 > LOOK, "it has looked more than once"
    assert len(seen) < 20, "the same statements, again and again"


def test_a_long_session_goes_bit_by_bit(db: Database) -> None:
    """Each transaction removes a bounded number of its runs; later sessions get their turn."""
    talk(db, 130)
    talk(db, session="other")
    pk = age(db, days=40)
    age(db, session="other", days=40)

    pieces = [piece for piece in Removal(db, Settings(**RUNS), erase=list).round() if piece]

    assert [piece.runs for piece in pieces] == [100, 31]
    assert (runs_left(db, pk), left(db)) == ([], ["s", "other"])


def test_what_is_due_is_read_from_a_range_of_an_index(db: Database) -> None:
    """No statement of a removal scans a table, however many sessions and runs there are."""
    crowd(db, 2_000)
    for n in range(3):
        talk(db, 2, session=f"old {n}")
        age(db, session=f"old {n}", days=40)
    source = talk(db, session="s", key="k")[0]
    with db.write() as tx:
        fork = replay_in(tx, source, execute_tools=False, settings=Settings()).run.id
    end_as(db, fork, Status.COMPLETED)
    Played(db, BatchOrder(kind=Kind.RETRY_FAILED)).step()
    with db.write() as tx:
        tx.execute(text("ANALYZE"))

    with statements(db) as seen:
        remove(db, **RUNS)
        remove(db, **MONTH)

    plans = {s: "\n".join(plan(db, s, p)) for s, p in seen.items()}
    scans = [found for found in plans.values() if scans_a_table(found)]
    assert scans == []
    for index, column in (("ix_sessions_idle", "updated_at"), ("ix_runs_ended", "finished_at")):
        ranges = [found for found in plans.values() if index in found and f"{column}<" in found.replace(" ", "")]
        assert ranges, f"no statement reads a range of {index}"


def scans_a_table(found: str) -> bool:
    """Tell whether a plan scans a table that grows."""
    big = ("sessions", "runs", "messages", "batch_items", "summary_jobs", "summaries", "idempotency")
    scans = [f"Seq Scan on {name}" for name in big] + [f"SCAN {name}\n" for name in big]
    return any(scan in f"{found}\n" for scan in scans)


def crowd(db: Database, count: int) -> None:
    """Write *count* expired sessions without runs."""
    row = {"team_id": "t", "last_seq": 0, "run_count": 0, "tags": [], "metadata": {}, "state": {}}
    with db.read() as tx:
        at = tx.execute(select(retention.db_time(-40 * 86_400))).scalar_one()
    made = [row | {"user_id": "u", "session_id": f"c{n}", "created_at": at, "updated_at": at} for n in range(count)]
    with db.write() as tx:
        for first in range(0, count, 10_000):
            tx.execute(insert(session_rows), made[first : first + 10_000])
