"""Builds of the product with one mechanism off. The checker must detect each.

`BREAKS` lists them with the faults that reveal them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import select, true, update

from ops.chaos import points
from worker.domain import size_of
from worker.errors import LeaseLost
from worker.process import patience
from worker.process.sweep import Sweep
from worker.runs.journal import RunJournal
from worker.store import leases, messages, sessions
from worker.store.tables import runs


def fence_off() -> None:
    """Writes of any process are accepted."""
    leases.still_held = lambda fence, status=None: true()


def lock_off() -> None:
    """The fence is checked, but nothing is locked until the write itself."""

    def hold(self: RunJournal, tx: Any, drafts: Any, *, usage: Any) -> int:
        mine = self._claim
        row = tx.execute(select(runs.c.fence, runs.c.status).where(runs.c.id == mine.run_id)).one()
        if row.fence != mine.fence or row.status != "running":
            raise LeaseLost(run_id=mine.run_id, fence=mine.fence)
        points.at("inside-write")
        last_seq = sessions.advance(tx, mine.session_pk, messages=len(drafts), size=size_of(drafts))
        booked = {"last_seq": last_seq, "model_calls": runs.c.model_calls + usage.model_calls}
        tx.execute(update(runs).where(runs.c.id == mine.run_id).values(**booked))
        return int(last_seq or 0)

    RunJournal._hold = hold  # type: ignore[method-assign]  # a broken build


def resume_off() -> None:
    """A reclaimed run starts over from its input."""
    whole = messages.of_run
    messages.of_run = lambda tx, **keys: whole(tx, **keys)[:1]


def dispatch_off() -> None:
    """The sweep sends nothing: a lost dispatch stays lost."""
    Sweep.once = lambda self: 0  # type: ignore[method-assign]  # as above


def finish_off() -> None:
    """A run ends in two transactions: its status first, its last messages in a second one."""
    end = RunJournal.end

    def in_halves(self: RunJournal, ending: Any, **why: Any) -> None:
        end(self, replace(ending, drafts=()), **why)
        points.at("between-halves")
        run_id, session_pk = self._claim.run_id, self._claim.session_pk
        with self._patience._db.write() as tx:
            size = size_of(ending.drafts)
            last_seq = sessions.advance(tx, session_pk, messages=len(ending.drafts), size=size)
            messages.append(tx, ending.drafts, session_pk=session_pk, run_id=run_id, last_seq=last_seq or 0)
            tx.execute(update(runs).where(runs.c.id == run_id).values(last_seq=last_seq))

    RunJournal.end = in_halves  # type: ignore[method-assign]  # as above


def patience_off() -> None:
    """A process gives up an attempt when the database fails once."""
    patience.Patience.again = lambda self, attempt: attempt()  # type: ignore[method-assign]  # as above


BREAKS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "fence": (fence_off, ("freeze_with_reply",)),
    "lock": (lock_off, ("freeze_inside_write",)),
    "resume": (resume_off, ("kill_at_point", "kill_worker")),
    "dispatch": (dispatch_off, ("flush_broker", "kill_worker")),
    "finish": (finish_off, ("kill_between_halves",)),
    "patience": (patience_off, ("cut_database", "restart_database")),
}
