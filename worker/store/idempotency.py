"""Idempotency keys of requests: the same key again finds the same run."""

from dataclasses import dataclass

from sqlalchemy import select, update

from worker.store.columns import db_time, upsert
from worker.store.engine import Transaction
from worker.store.tables import idempotency


@dataclass(frozen=True, slots=True)
class Taken:
    """An earlier order under the same key."""

    run_id: str
    request_hash: str


def take(tx: Transaction, *, user_id: str, key: str, run_id: str, request_hash: str) -> Taken | None:
    """Take *key* for *run_id*; return the earlier request if the key is taken.

    Of two concurrent requests the second waits here until the first has committed or rolled back. The row of an earlier
    request is locked, so that its run cannot be erased before it was read.
    """
    row = tx.execute(
        upsert(tx.dialect.name, idempotency)
        .values(user_id=user_id, key=key, run_id=run_id, request_hash=request_hash, created_at=db_time())
        .on_conflict_do_update(
            index_elements=[idempotency.c.user_id, idempotency.c.key], set_={"run_id": idempotency.c.run_id}
        )
        .returning(idempotency.c.run_id, idempotency.c.request_hash)
    ).one()
    return None if row.run_id == run_id else Taken(*row)


def is_taken(tx: Transaction, *, user_id: str, key: str) -> bool:
    """Tell whether *key* is taken."""
    own = (idempotency.c.user_id == user_id, idempotency.c.key == key)
    return tx.execute(select(idempotency.c.run_id).where(*own)).one_or_none() is not None


def point_to(tx: Transaction, *, user_id: str, key: str, run_id: str) -> None:
    """Point a key that this transaction took to another run: the one that its input was joined to."""
    own = (idempotency.c.user_id == user_id, idempotency.c.key == key)
    tx.execute(update(idempotency).where(*own).values(run_id=run_id))
