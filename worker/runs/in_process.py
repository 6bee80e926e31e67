"""Execute a run in this process, for a script that calls `team.run()`: the library's door.

The run waits for its turn in its session like any other, with the same lease, order and promises. It is leased from
its acceptance, so no worker takes it. If this process dies, the lease expires, and any worker that serves the team, or
the next caller, finishes the run.
"""

import time
from dataclasses import replace

from worker.domain import SERVICE, Run, RunOrder
from worker.errors import RunNotFound
from worker.loop.definition import Definition
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.runs.execute import execute
from worker.store import Lease, runs, sessions, teams

POLL_S = 0.05  # between two checks of a run that waits for its turn


def accept_in_process(runtime: Runtime, order: RunOrder) -> Run:
    """Accept a run that this process will execute."""
    lease = Lease(runtime.owner, runtime.settings.lease_seconds)
    return enqueue(runtime.db, order, settings=runtime.settings, lease=lease).run


def execute_when_head(runtime: Runtime, definition: Definition, run_id: str) -> Run:
    """Execute an accepted run when its turn comes, and return it once it is terminal.

    Queued runs before it that no live worker serves are executed first.
    """
    serving = replace(runtime, teams={definition.id: definition})
    with runtime.keeper.keep_waiting(run_id):
        while True:
            execute(serving, run_id, definition.id)
            with runtime.db.read() as tx:
                run = runs.get(tx, run_id, principal=SERVICE)
            if run is None:
                raise RunNotFound(run_id=run_id)
            if run.status.terminal:
                return run
            with runtime.db.read() as tx:
                head = sessions.head_of_run(tx, run_id)
                served = teams.is_served(tx, definition.id, queue="runs")
            if head is not None and head != run_id and not served:
                execute(serving, head, definition.id)
            time.sleep(POLL_S)
