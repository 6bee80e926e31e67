"""Refresh summaries in this process, for a script that has no workers: the library's door."""

import time
from dataclasses import replace

from worker.errors import SummaryFailed
from worker.loop.definition import Definition
from worker.process.runtime import Runtime
from worker.store import sessions, summary_jobs, teams
from worker.store.ready import SILENT_S
from worker.summaries.refresh import FULL, refresh

LOOK_S = 0.05  # between two looks at a refresh that another process is at
FAILED = "failed: "


def refresh_now(runtime: Runtime, definition: Definition, session_pk: int) -> None:
    """Refresh a session's summary, if one is wanted, and return when it is done, here or elsewhere.

    Raises:
        SummaryFailed: a try failed.
    """
    ours = replace(runtime, teams={definition.id: definition})
    while True:
        outcome = refresh(ours, session_pk, definition.id)
        if outcome.startswith(FAILED):
            raise SummaryFailed(reason=outcome.removeprefix(FAILED))
        with runtime.db.read() as tx:
            left = summary_jobs.standing(tx, session_pk)
        if left is None or left.status == "failed":
            return
        time.sleep(LOOK_S)


def refresh_in_background(runtime: Runtime, definition: Definition, run_id: str) -> None:
    """Refresh the summary of a run's session on a thread, if it is due and no live worker makes summaries of its team.

    The process waits for it when it ends, for as long as a worker would at SIGTERM.
    """
    if not definition.enable_session_summaries:
        return
    with runtime.db.read() as tx:
        pk = sessions.pk_of_run(tx, run_id)
        wanted = None if pk is None else summary_jobs.standing(tx, pk)
        served = teams.is_served(tx, definition.id, silent_s=SILENT_S, queue="summaries")
    if pk is None or wanted is None or wanted.status != "waiting" or served:
        return
    ours = replace(runtime, teams={definition.id: definition})

    def work() -> None:
        while refresh(ours, pk, definition.id) == FULL:  # nobody else rings again
            time.sleep(LOOK_S)

    runtime.in_background(work)
