"""Rows of sessions, on both databases."""

from sqlalchemy import select

from tests.support.life import accept, take
from worker.store import Database, sessions
from worker.store.tables import sessions as rows

MOST = 2**32  # characters: more than 32 bits count


def test_a_history_can_grow_by_more_than_32_bits_count(db: Database) -> None:
    """The inputs of all runs that ended in the queue are counted at once."""
    claim = take(db, accept(db, "hello").run.id)

    with db.write() as tx:
        sessions.advance(tx, claim.session_pk, messages=1, size=MOST)

    with db.read() as tx:
        size = tx.execute(select(rows.c.unsummarised).where(rows.c.pk == claim.session_pk)).scalar_one()
    assert size == MOST + len("hello")
