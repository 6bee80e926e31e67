"""Background runs: executed like all others, but only a limited number at the same time."""

from worker.domain import End, Outcome
from worker.errors import DatabaseUnavailable
from worker.process.runtime import Runtime
from worker.runs.execute import execute
from worker.runs.progress import Report
from worker.store import dispatchable


def execute_in_slot(runtime: Runtime, run_id: str, team: str, *, report: Report) -> Outcome:
    """Execute a run if a slot is free. If none is, the delivery is dropped: `feed` sends it again when one is."""
    if not runtime.batch_slots.acquire():
        return Outcome(End.NO_SLOT)
    try:
        return execute(runtime, run_id, team, report=report)
    finally:
        runtime.batch_slots.release()
        feed(runtime)


def feed(runtime: Runtime) -> None:
    """Send as many waiting background runs as this process has free slots. Called after each run, and by each sweep."""
    free = runtime.batch_slots.free
    if not free or runtime.keeper.handing_over:
        return
    try:
        with runtime.db.write() as tx:
            dispatches = dispatchable.take_background(tx, limit=free)
    except DatabaseUnavailable:
        return
    runtime.dispatcher.send(dispatches)
