"""Lifetimes, on both databases: expired rows are removed whole and in order; the rest stays."""

import math
from dataclasses import replace

import pytest
from sqlalchemy import update

from tests.support.ageing import (
    age,
    age_run,
    announce,
    check_whole,
    left,
    remove,
    runs_left,
    silence,
    talk,
)
from tests.support.condensing import session_row
from tests.support.life import accept, take
from worker.domain import Retention, Status
from worker.store import Database, retention
from worker.store.erasure import Erased
from worker.store.tables import sessions as session_rows

MONTH = {"keep_sessions_days": 30}
RUNS = {"keep_runs_days": 30}


def test_nothing_goes_unless_somebody_said_so(db: Database) -> None:
    """Without a lifetime nothing is removed, however old it is."""
    talk(db)
    age(db, days=10_000)
    announce(db, Retention())

    assert remove(db) == Erased()
    assert left(db) == ["s"]


@pytest.mark.parametrize(("late_s", "there"), [(-20, ["s"]), (20, [])], ids=["a moment early", "a moment late"])
def test_a_session_goes_so_long_after_its_last_activity(db: Database, late_s: float, there: list[str]) -> None:
    """It is removed whole, by the database's clock."""
    talk(db, 2)
    age(db, days=30, seconds=late_s)

    removed = remove(db, **MONTH)

    assert left(db) == there
    assert replace(removed, streaming=()) == (Erased() if there else Erased(1, 2, 4))
    check_whole(db)


@pytest.mark.parametrize(("late_s", "gone"), [(-20, 1), (20, 2)], ids=["a moment early", "a moment late"])
def test_a_run_goes_so_long_after_its_end(db: Database, late_s: float, gone: int) -> None:
    """Its messages are removed too; the others keep their positions, without a gap."""
    made = talk(db, 4)
    pk = age(db, days=29)
    for run_id, days in zip(made, (31, 30 + late_s / 86_400, 29, 0), strict=True):
        age_run(db, run_id, days=days)

    removed = remove(db, **RUNS)

    assert removed == Erased(0, gone, 2 * gone)
    assert runs_left(db, pk) == made[gone:]
    check_whole(db)
    row = session_row(db, pk)
    assert (row.run_count, row.last_seq) == (4, 8), "removed rows are counted, and their positions are not used again"


def test_a_run_waits_for_those_before_it(db: Database) -> None:
    """A run cancelled in the queue ends before them: removing it alone would leave a gap."""
    made = talk(db, 3)
    pk = age(db, days=1)
    for run_id in made[1:]:
        age_run(db, run_id, days=40)

    assert remove(db, **RUNS) == Erased()
    age_run(db, made[0], days=40)
    assert remove(db, **RUNS).runs == 3
    assert (runs_left(db, pk), left(db)) == ([], ["s"])


SAID = {
    "longer than the settings": (Retention(sessions_days=60), ["s"]),
    "for ever": (Retention(sessions_days=math.inf), ["s"]),
    "something else": (Retention(runs_days=60), []),
    "shorter than the settings": (Retention(sessions_days=10), []),
    "nothing": (Retention(), ["s"]),
}


@pytest.mark.parametrize("case", SAID)
@pytest.mark.parametrize("served", [True, False], ids=["served", "not served any more"])
def test_a_teams_own_lifetimes_go_before_the_settings(db: Database, case: str, served: bool) -> None:
    """What its workers announced last still applies when none is left, in any worker that removes."""
    said, there = SAID[case]
    talk(db)
    age(db, days=20 if case in ("shorter than the settings", "nothing") else 40)
    announce(db, said)
    if not served:
        silence(db)

    remove(db, **MONTH)

    assert left(db) == there


def test_a_team_that_no_worker_knows_is_kept_as_the_settings_say(db: Database) -> None:
    """Such as the team of a refused order; each team gets its turn."""
    for n, team in enumerate(("a", "b", "c")):
        talk(db, session=f"s{n}")
        with db.write() as tx:
            tx.execute(update(session_rows).where(session_rows.c.session_id == f"s{n}").values(team_id=team))
        age(db, session=f"s{n}", days=40)
    announce(db, Retention(sessions_days=math.inf), team="b")

    remove(db, **MONTH)

    assert left(db) == ["s1"]


@pytest.mark.parametrize(
    "said",
    [Retention(sessions_days=25), Retention(sessions_days=math.inf), Retention()],
    ids=["longer", "ever", "nothing"],
)
def test_of_two_versions_that_are_served_the_longer_lifetime_holds(db: Database, said: Retention) -> None:
    """During a deploy nothing is removed that one version keeps; afterwards the new lifetime applies."""
    talk(db)
    age(db, days=20)
    announce(db, said, worker="old")
    announce(db, Retention(sessions_days=10), worker="new")

    remove(db, **MONTH)
    assert left(db) == ["s"]
    silence(db, "old")
    remove(db, **MONTH)
    assert left(db) == []


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_nothing_of_a_session_goes_while_a_run_is_under_way(db: Database, status: Status) -> None:
    """However long the run takes."""
    talk(db, 2)
    run_id = accept(db).run.id
    if status is Status.RUNNING:
        take(db, run_id)
    age(db, days=40)

    assert remove(db, **MONTH, **RUNS) == Erased()


def test_a_session_that_is_used_between_look_and_lock_stays(db: Database) -> None:
    """Candidates are checked again under the lock."""
    talk(db)
    pk = age(db, days=40)
    with db.read() as tx:
        before = retention.idle_sessions(tx, "t", before=session_row(db, pk).created_at, after=None, limit=9)[0]
    talk(db)

    with db.write() as tx:
        removed, _ = retention.remove_sessions(tx, [pk], before=before.updated_at, streams_s=0)

    assert (removed, left(db)) == (Erased(), ["s"])
