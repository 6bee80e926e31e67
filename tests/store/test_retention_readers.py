"""Expired rows stay while summaries, batches, replays or keys need them."""

from dataclasses import replace

import pytest
from sqlalchemy import select, text

from tests.support.ageing import (
    age,
    age_run,
    check_whole,
    left,
    remove,
    runs_left,
    talk,
)
from tests.support.batches import Played, end_as, ended_runs
from tests.support.condensing import converse, cover, session_row
from tests.support.life import accept
from worker.batches import lifecycle
from worker.domain import SERVICE, BatchOrder, Kind, Status
from worker.errors import IdempotencyConflict, RunGone
from worker.runs.replay import replay_in
from worker.settings import Settings
from worker.store import Database
from worker.store.erasure import Erased
from worker.store.tables import idempotency, runs
from worker.summaries import due

MONTH = {"keep_sessions_days": 30}
RUNS = {"keep_runs_days": 30}


def replay(db: Database, source: str) -> str:
    """Accept a replay of a run."""
    with db.write() as tx:
        return replay_in(tx, source, execute_tools=False, settings=Settings()).run.id


@pytest.mark.parametrize("kept", [MONTH, RUNS], ids=["with its session", "alone"])
def test_a_key_whose_run_has_gone_makes_no_other(db: Database, kept: dict[str, int]) -> None:
    """Repeating the order names the removed run; another order is refused; erasing the user frees the key."""
    run_id = talk(db, key="k")[0]
    age(db, days=40)
    before = left(db) if kept is RUNS else []
    remove(db, **kept)

    with pytest.raises(RunGone, match=run_id):
        accept(db, "input 0", key="k")
    with pytest.raises(IdempotencyConflict):
        accept(db, "another", key="k")

    assert left(db) == before
    with db.read() as tx:
        assert tx.execute(select(idempotency.c.run_id)).scalars().all() == [run_id]
        assert tx.execute(select(runs.c.id)).all() == []


def test_a_run_that_no_summary_covers_stays_where_the_team_has_summaries(db: Database) -> None:
    """Every context would lose it. Covered runs are removed, up to the first that is not covered."""
    pk = converse(db, 4)
    age(db, days=40)

    assert remove(db, **RUNS) == Erased()
    cover(db, pk, seq=5, position=3)
    assert remove(db, **RUNS) == Erased(0, 2, 4)
    check_whole(db)
    cover(db, pk, seq=8, position=4)
    assert remove(db, **RUNS) == Erased(0, 2, 4)


def test_nothing_goes_while_a_summary_is_made(db: Database) -> None:
    """A rebuild reads from the first message."""
    pk = converse(db, 2)
    cover(db, pk, seq=4, position=2)
    age(db, days=40)
    with db.write() as tx:
        due.request(tx, pk, session_id="s", team="t", rebuild=True)

    assert remove(db, **RUNS) == Erased()


def test_what_goes_is_not_waited_to_be_summarised(db: Database) -> None:
    """A team that gets summaries later has none due because of removed messages."""
    talk(db, 3)
    pk = age(db, days=40)
    size = session_row(db, pk).unsummarised

    remove(db, **RUNS)

    assert (size, session_row(db, pk).unsummarised) == (3 * len("input 0answer 0"), 0)


BATCHES = {
    "waiting for its turn": BatchOrder(kind=Kind.RETRY_FAILED, canary="1"),
    "of refreshes": BatchOrder(kind=Kind.REFRESH_SUMMARIES, canary="1"),
}


@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("kept", [MONTH, RUNS], ids=["sessions", "runs"])
def test_what_an_unfinished_batch_is_about_stays(db: Database, case: str, kept: dict[str, int]) -> None:
    """They stay until the batch ends."""
    ended_runs(db, 2)
    batch = Played(db, BATCHES[case])
    batch.step()
    for session in ("s0", "s1"):
        age(db, session=session, days=40)
    with db.write() as tx:
        tx.execute(text("DELETE FROM summary_jobs" if db.is_sqlite else "DELETE FROM team_sessions.summary_jobs"))

    remove(db, **kept)
    assert "s1" in left(db)
    assert len(ids(db)) >= 1
    lifecycle.cancel(db, batch.id, principal=SERVICE, send=list)
    batch.step()
    batch.end()
    batch.step()
    assert batch.now.finished_at is not None
    for session in left(db):
        age(db, session=session, days=40)
    remove(db, **kept)

    assert (left(db) if kept is MONTH else ids(db)) == []


def test_a_run_that_was_made_for_an_item_stays_until_it_is_counted(db: Database) -> None:
    """The batch can still count its outcome when its workers come back."""
    failed = ended_runs(db, 1)
    batch = Played(db, BatchOrder(kind=Kind.RETRY_FAILED))
    batch.step()
    batch.end()
    pk = age(db, session="s0", days=40)

    assert remove(db, **MONTH, **RUNS) == Erased()
    assert batch.step().outcomes == {"completed": 1}
    assert remove(db, **RUNS).runs == 2
    assert (runs_left(db, pk), batch.statuses(), len(failed)) == ([], ["gone"], 1)


@pytest.mark.parametrize("kept", [MONTH, RUNS], ids=["sessions", "runs"])
def test_a_session_stays_while_a_replay_reads_its_past(db: Database, kept: dict[str, int]) -> None:
    """A replay reads all runs before the one that it repeats; so does a replay of a replay."""
    made = talk(db, 3)
    age(db, days=40)
    first = replay(db, made[2])
    end_as(db, first, Status.COMPLETED)
    second = replay(db, first)

    assert remove(db, **kept) == Erased()
    end_as(db, second, Status.COMPLETED)
    gone = remove(db, **kept)

    assert replace(gone, streaming=(), forks=0) == (Erased(1, 5, 10) if kept is MONTH else Erased(0, 2, 4))
    assert ids(db) == ([] if kept is MONTH else sorted([made[2], first, second]))


def test_a_run_stays_as_long_as_its_replay(db: Database) -> None:
    """So both can be compared. The replay expires first, with its fork, then the run."""
    made = talk(db, 2)
    pk = age(db, days=40)
    fork = replay(db, made[0])
    end_as(db, fork, Status.COMPLETED)

    assert remove(db, **RUNS) == Erased()
    age_run(db, fork, days=31)
    removed = remove(db, **RUNS) + remove(db, **RUNS)

    assert replace(removed, forks=0) == Erased(0, 3, 6)
    assert (runs_left(db, pk), len(left(db))) == ([], 1)


def ids(db: Database) -> list[str]:
    """Return all runs, by id."""
    with db.read() as tx:
        return list(tx.execute(select(runs.c.id).order_by(runs.c.id)).scalars())
