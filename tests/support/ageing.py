"""Sessions that are made old, and what is removed of them: for tests of retention."""

from typing import Any

from sqlalchemy import select, update

from tests.support.batches import end_as
from tests.support.life import accept
from worker.domain import Retention, Status
from worker.retention import Removal
from worker.settings import Settings
from worker.store import Database, teams
from worker.store.columns import db_time
from worker.store.erasure import Erased
from worker.store.tables import messages, runs, sessions
from worker.store.tables import teams as team_rows

DAY_S = 86_400.0


def talk(db: Database, count: int = 1, *, session: str = "s", key: str | None = None) -> list[str]:
    """Complete *count* runs of team 't', each of two messages; return their ids."""
    made = []
    for n in range(count):
        made.append(accept(db, f"input {n}", session=session, key=key).run.id)
        end_as(db, made[-1], Status.COMPLETED, answer=f"answer {n}")
    return made


def age(db: Database, *, session: str = "s", days: float = 0, seconds: float = 0) -> int:
    """Move everything in a session into the past; return the session's primary key."""
    at = db_time(-days * DAY_S - seconds)
    with db.write() as tx:
        pk: int = tx.execute(select(sessions.c.pk).where(sessions.c.session_id == session)).scalar_one()
        tx.execute(update(sessions).where(sessions.c.pk == pk).values(updated_at=at))
        tx.execute(update(runs).where(runs.c.session_pk == pk, runs.c.finished_at.is_not(None)).values(finished_at=at))
    return pk


def age_run(db: Database, run_id: str, *, days: float) -> None:
    """Set the end of a run some *days* into the past."""
    with db.write() as tx:
        tx.execute(update(runs).where(runs.c.id == run_id).values(finished_at=db_time(-days * DAY_S)))


def announce(db: Database, retention: Retention, *, team: str = "t", worker: str = "w") -> None:
    """Announce a live worker that serves a team with this retention."""
    with db.write() as tx:
        teams.announce(tx, worker=worker, versions={team: "1"}, queues=["batch"], retention={team: retention})


def silence(db: Database, worker: str = "w", *, for_s: float = 3_600) -> None:
    """Set the last heartbeat of a worker *for_s* seconds into the past."""
    with db.write() as tx:
        tx.execute(update(team_rows).where(team_rows.c.worker == worker).values(seen_at=db_time(-for_s)))


def remove(db: Database, **settings: Any) -> Erased:
    """Remove all that has expired, as a worker with these settings does in a round."""
    return sum(Removal(db, Settings(**settings), erase=lambda _runs: None).round(), Erased())


def left(db: Database) -> list[str]:
    """Return the ids of all sessions, the oldest first."""
    with db.read() as tx:
        return list(tx.execute(select(sessions.c.session_id).order_by(sessions.c.pk)).scalars())


def runs_left(db: Database, session_pk: int) -> list[str]:
    """Return the ids of a session's runs, in order."""
    with db.read() as tx:
        own = select(runs.c.id).where(runs.c.session_pk == session_pk)
        return list(tx.execute(own.order_by(runs.c.position)).scalars())


def check_whole(db: Database) -> None:
    """Assert that nothing is half removed: each run has its messages, and positions and seqs have no gap."""
    with db.read() as tx:
        run_rows = tx.execute(select(runs).order_by(runs.c.session_pk, runs.c.position)).all()
        columns = select(messages.c.session_pk, messages.c.seq, messages.c.run_id)
        message_rows = tx.execute(columns.order_by(messages.c.session_pk, messages.c.seq)).all()
        session_pks = set(tx.execute(select(sessions.c.pk)).scalars())
    expected = [(r.session_pk, seq, r.id) for r in run_rows for seq in range(r.first_seq or 0, (r.last_seq or -1) + 1)]
    assert [tuple(m) for m in message_rows] == expected
    assert {r.session_pk for r in run_rows} <= session_pks
    positions: dict[int, list[int]] = {}
    for run in run_rows:
        positions.setdefault(run.session_pk, []).append(run.position)
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in positions.values())
