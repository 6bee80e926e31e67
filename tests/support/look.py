"""Read rows and the model's journal, for tests."""

import itertools
from collections import Counter
from typing import Any

from sqlalchemy import select

from tests.support.system import System
from worker.domain import Message, Role, open_calls
from worker.store import Database, messages
from worker.store.tables import runs


def row(db: Database, run_id: str) -> Any:
    """Return the row of a run."""
    with db.read() as tx:
        return tx.execute(select(runs).where(runs.c.id == run_id)).one()


def rows(db: Database) -> list[Any]:
    """Return the rows of all runs."""
    with db.read() as tx:
        return list(tx.execute(select(runs)).all())


def only_run(db: Database) -> str | None:
    """Return the id of the only run, or None."""
    with db.read() as tx:
        ids = list(tx.execute(select(runs.c.id)).scalars())
    assert len(ids) <= 1
    return ids[0] if ids else None


def log(db: Database, run_id: str) -> list[Message]:
    """Return the messages of a run."""
    with db.read() as tx:
        return messages.of_run_by_id(tx, run_id)


def count(db: Database, status: str) -> int:
    """Return how many runs have a status."""
    with db.read() as tx:
        return len(tx.execute(select(runs.c.id).where(runs.c.status == status)).all())


def calls_by_turn(system: System, text: str) -> Counter[int]:
    """Return how often the model was called for each turn of the run with input *text*."""
    return Counter(line["turn"] for line in system.journal() if line["user"] == text and line["event"] == "asked")


def check_whole(db: Database, run_id: str, *, steps: int) -> None:
    """Assert that a completed run of *steps* tool steps has each message once, in order, and no open call."""
    written = log(db, run_id)
    assert [m.role for m in written] == [Role.USER, *[Role.ASSISTANT, Role.TOOL] * steps, Role.ASSISTANT]
    assert [m.seq for m in written] == list(range(written[0].seq, written[0].seq + len(written)))
    assert not open_calls(written)


def check_history(db: Database, session_pk: int) -> None:
    """Assert that a session's runs ended in the order of acceptance, and that its history has no gap."""
    with db.read() as tx:
        columns = (runs.c[name] for name in ("status", "first_seq", "started_at", "finished_at"))
        rows = tx.execute(select(*columns).where(runs.c.session_pk == session_pk).order_by(runs.c.position)).all()
        written = messages.page(tx, session_pk=session_pk, after_seq=0, limit=10_000)
    assert [r.status for r in rows] == ["completed"] * len(rows)
    assert [r.first_seq for r in rows] == sorted(r.first_seq for r in rows)
    assert [m.seq for m in written] == list(range(1, len(written) + 1))
    assert all(a.finished_at <= b.started_at for a, b in itertools.pairwise(rows))
