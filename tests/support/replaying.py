"""Runs and their replays in one process, for tests, and the rows of a session."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select

from tests.support.outcomes import execute
from worker.domain import SERVICE, Run, RunOrder, Status
from worker.errors import ReplayDiverged
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.runs.replay import replay_in
from worker.store import Database, runs, users
from worker.store.tables import messages, sessions, summaries
from worker.store.tables import runs as runs_table

Outcome = Literal["same", "changed", "diverged", "failed"]


@dataclass(frozen=True)
class Comparison:
    """The output of a replay and of the run that it repeats. `status` None: it has not ended."""

    status: Outcome | None
    old_output: str | None
    new_output: str | None


def run(runtime: Runtime, text: str, *, session: str = "s", metadata: dict[str, Any] | None = None) -> str:
    """Execute a run of team 't' for user 'u' until it ends or pauses, and return its id."""
    order = RunOrder("t", text, session_id=session, user_id="u", metadata=metadata or {}, timeout=99.0)
    run_id = enqueue(runtime.db, order, settings=runtime.settings).run.id
    execute(runtime, run_id, "t")
    return run_id


def accept_replay(runtime: Runtime, source: str, *, execute_tools: bool = False) -> Run:
    """Accept a replay, and execute nothing."""
    with runtime.db.write() as tx:
        return replay_in(tx, source, execute_tools=execute_tools, settings=runtime.settings).run


def replay(runtime: Runtime, source: str, *, execute_tools: bool = False) -> str:
    """Execute a replay of a run until it ends or pauses, and return its id."""
    run_id = accept_replay(runtime, source, execute_tools=execute_tools).id
    execute(runtime, run_id, "t")
    return run_id


def comparison(db: Database, run_id: str) -> Comparison:
    """Return how a replay compares to the run that it repeats."""
    new = get_run(db, run_id)
    assert new.replay is not None
    old = get_run(db, new.replay.of)
    return Comparison(_outcome(old, new), old.output, new.output)


def _outcome(old: Run, new: Run) -> Outcome | None:
    if not new.status.terminal:
        return None
    if new.error is not None and new.error.code == ReplayDiverged.code:
        return "diverged"
    if new.status is not Status.COMPLETED:
        return "failed"
    return "same" if new.output == old.output else "changed"


def every_row(db: Database, session_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a session, whole."""
    with db.read() as tx:
        own = tx.execute(select(sessions).where(sessions.c.session_id == session_id)).one()
        orders = (runs_table.c.position, messages.c.seq, summaries.c.version)
        rows = {order.table.name: users.rows(tx, order, own.pk, after=0, limit=10_000) for order in orders}
    return rows | {"sessions": [dict(own._mapping)]}


def forks(db: Database) -> list[Any]:
    """Return the rows of all forks, the oldest first."""
    with db.read() as tx:
        is_fork = sessions.c.forked_from.is_not(None)
        return list(tx.execute(select(sessions).where(is_fork).order_by(sessions.c.pk)))


def get_run(db: Database, run_id: str) -> Run:
    """Return a run as its caller sees it."""
    with db.read() as tx:
        run = runs.get(tx, run_id, principal=SERVICE)
    assert run is not None
    return run
