"""A batch without workers: for tests of how it is planned, fed and counted."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from tests.support.life import accept, end, take
from worker.batches import accept as accept_batch
from worker.batches import feed, lifecycle
from worker.batches.accept import ExplicitItems
from worker.domain import SERVICE, Batch, BatchOrder, BatchRun, Dispatch, Draft, Role, RunError, Status, Usage
from worker.runs.finish import Ending
from worker.settings import Settings
from worker.store import Database
from worker.store.tables import batch_items, runs


class Played:
    """One batch, and what was sent for it."""

    def __init__(self, db: Database, order: BatchOrder, items: ExplicitItems | None = None) -> None:
        self.db = db
        self.sent: list[Dispatch] = []
        self.id = accept_batch.create(db, order, principal=SERVICE, settings=Settings(), items=items).id

    @property
    def now(self) -> Batch:
        """The batch as it is now."""
        return lifecycle.get(self.db, self.id, principal=SERVICE)

    def step(self) -> Batch:
        """Feed it once, as a sweep does."""
        feed.step(self.db, self.id, settings=Settings(), send=self._send)
        return self.now

    def statuses(self) -> list[str]:
        """The statuses of its items, by number."""
        return [item.status for item in lifecycle.items(self.db, self.id, principal=SERVICE, limit=1000)]

    def in_flight(self) -> list[str]:
        """The runs that were made for items that have not ended."""
        with self.db.read() as tx:
            made = select(runs.c.id).join(batch_items, batch_items.c.run_id == runs.c.id)
            left = made.where(batch_items.c.batch_id == self.id, runs.c.status.in_(("queued", "running")))
            return list(tx.execute(left.order_by(batch_items.c.number)).scalars())

    def end(self, status: Status = Status.COMPLETED, *, tokens: int = 10) -> int:
        """End all runs in flight; return how many."""
        ended = self.in_flight()
        for run_id in ended:
            end_as(self.db, run_id, status, tokens=tokens)
        return len(ended)

    def _send(self, dispatches: Iterable[Dispatch]) -> None:
        self.sent += dispatches


def end_as(db: Database, run_id: str, status: Status, *, tokens: int = 10, answer: str = "hi") -> None:
    """Claim a run and end it."""
    claim = take(db, run_id)
    usage = Usage(1, tokens, 0, 0)
    if status is Status.COMPLETED:
        drafts = [Draft(Role.ASSISTANT, "t", answer, usage=usage)]
        end(db, claim, Ending(status, drafts, output=answer, usage=usage))
    else:
        error = RunError("limit_reached", "The run reached its limit.") if status is Status.FAILED else None
        end(db, claim, Ending(status, [], error=error, usage=usage))


def ended_runs(db: Database, count: int, status: Status = Status.FAILED) -> list[str]:
    """Make runs that have ended, each in its own session."""
    made = [accept(db, f"input {n}", session=f"s{n}").run.id for n in range(count)]
    for run_id in made:
        end_as(db, run_id, status)
    return made


def requests(count: int, **fields: Any) -> ExplicitItems:
    """Return items that enqueue runs of team 't', each in a new session."""
    return ExplicitItems(requests=[BatchRun("t", "hello", custom_id=f"r{n}", **fields) for n in range(1, count + 1)])
