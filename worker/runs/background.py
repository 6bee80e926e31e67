"""Runs that nobody waits for: executed like all others, but only in so many slots at the same time."""

from worker.errors import DatabaseUnavailable
from worker.process.runtime import Runtime
from worker.runs.execute import execute
from worker.runs.progress import Say
from worker.store import dispatchable


def execute_in_slot(runtime: Runtime, run_id: str, team: str, *, say: Say) -> str:
    """Execute a run if a slot is free. If none is, the delivery is dropped: `feed` sends it again when one is."""
    if not runtime.batch_slots.acquire():
        return "no free slot"
    try:
        return execute(runtime, run_id, team, say=say)
    finally:
        runtime.batch_slots.release()
        feed(runtime)


def feed(runtime: Runtime) -> None:
    """Send as many waiting background runs as this process has free slots. After each, and with each sweep."""
    free = runtime.batch_slots.free
    if not free or runtime.keeper.handing_over:
        return
    try:
        with runtime.db.write() as tx:
            found = dispatchable.take_background(tx, limit=free)
    except DatabaseUnavailable:
        return
    runtime.dispatcher.send(found)
