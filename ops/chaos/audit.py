"""An audit of claims and writes: one more row in the same transaction as each of them.

So the note exists exactly if the write does, even when the process is killed. It says what no row of the product says:
which attempt wrote a message. The table is in the product's database.
"""

import os
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert

from worker.runs import finish, journal
from worker.runs.journal import RunJournal
from worker.store import Database, Transaction, leases, summaries
from worker.store.columns import UtcTime, db_time

metadata = MetaData()
audit = Table(
    "chaos_audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("what", String(16), nullable=False),  # claim, write, end, requeue: of a run; cover: of a session's summary
    Column("key", String(64), nullable=False),  # the run's id; of a cover the session's pk
    Column("fence", Integer, nullable=False),  # of the attempt; of a cover the version, 0 where it made none
    Column(
        "first", Integer, nullable=False
    ),  # the messages that were written or covered; of a claim: those written before it
    Column("last", Integer, nullable=False),
    Column("pid", Integer, nullable=False),
)


def create(db: Database) -> None:
    """Make the table."""
    with db.write() as tx:
        metadata.create_all(tx)


def install() -> None:
    """Make this process note what it does, from now on."""
    claim, requeue, hold = leases.claim, leases.requeue, RunJournal._hold
    end_head, cover = finish.end_head, summaries.cover

    def noted_claim(tx: Transaction, *, run_id: str, **rest: Any) -> Any:
        taken = claim(tx, run_id=run_id, **rest)
        if taken is not None:
            _note(tx, "claim", run_id, fence=taken.fence, first=taken.first_seq, last=taken.last_seq)
        return taken

    def noted_requeue(tx: Transaction, taken: Any, **rest: Any) -> Any:
        at = requeue(tx, taken, **rest)
        if at is not None:
            _note(tx, "requeue", taken.run_id, fence=taken.fence, first=0, last=0)
        return at

    def noted_hold(self: Any, tx: Transaction, drafts: Any, **rest: Any) -> int:
        last = hold(self, tx, drafts, **rest)
        if drafts:
            mine = self._claim
            _note(tx, "write", mine.run_id, fence=mine.fence, first=last - len(drafts) + 1, last=last)
        return last

    def noted_end(tx: Transaction, head: Any, ending: Any) -> Any:
        written, dispatches = end_head(tx, head, ending)
        if written:
            _note(tx, "write", head.run_id, fence=head.fence, first=written[0].seq, last=written[-1].seq)
        _note(tx, "end", head.run_id, fence=head.fence, first=0, last=0)
        return written, dispatches

    def noted_cover(tx: Transaction, pk: int, on: Any, draft: Any) -> Any:
        left = cover(tx, pk, on, draft)
        if left is not None:
            version = (on.version + 1) * (draft.pieces > 0)
            _note(tx, "cover", str(pk), fence=version, first=on.covers_through_seq + 1, last=draft.covers_through_seq)
        return left

    leases.claim = noted_claim
    leases.requeue = noted_requeue  # type: ignore[assignment]  # it passes on arguments as they come
    RunJournal._hold = noted_hold  # type: ignore[method-assign]  # as above
    journal.end_head = noted_end  # type: ignore[attr-defined]  # imported there, not exported
    summaries.cover = noted_cover  # type: ignore[assignment]  # as above


def _note(tx: Transaction, what: str, key: str, *, fence: int, first: int, last: int) -> None:
    row = {"what": what, "key": key, "fence": fence, "first": first, "last": last, "pid": os.getpid()}
    tx.execute(insert(audit).values(at=db_time(), **row))
