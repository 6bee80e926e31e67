"""Refresh summaries in this process, for scripts that run teams without workers."""

import time
from dataclasses import replace

from worker.domain import End
from worker.errors import SummaryFailed
from worker.loop.definition import Definition
from worker.process.runtime import Runtime
from worker.store import sessions, summary_jobs, teams
from worker.summaries.refresh import refresh

POLL_S = 0.05  # between two checks of a refresh that another process executes


def refresh_now(runtime: Runtime, definition: Definition, session_pk: int) -> None:
    """Refresh a session's summary if a refresh was requested, and return when it is done, here or elsewhere.

    Raises:
        SummaryFailed: an attempt failed.
    """
    serving = replace(runtime, teams={definition.id: definition})
    while True:
        outcome = refresh(serving, session_pk, definition.id)
        if outcome.end is End.FAILED:
            raise SummaryFailed(reason=outcome.detail)
        with runtime.db.read() as tx:
            state = summary_jobs.state(tx, session_pk)
        if state is None or state.status == "failed":
            return
        time.sleep(POLL_S)


def refresh_in_background(runtime: Runtime, definition: Definition, run_id: str) -> None:
    """Refresh the summary of a run's session on a thread, if it is due and no live worker makes its team's summaries.

    At its end, the process waits for the thread as long as a worker waits at SIGTERM.
    """
    if not definition.enable_session_summaries:
        return
    with runtime.db.read() as tx:
        pk = sessions.pk_of_run(tx, run_id)
        state = None if pk is None else summary_jobs.state(tx, pk)
        served = teams.is_served(tx, definition.id, queue="summaries")
    if pk is None or state is None or state.status != "waiting" or served:
        return
    serving = replace(runtime, teams={definition.id: definition})

    def work() -> None:
        while refresh(serving, pk, definition.id).end is End.NO_SLOT:  # no worker sends the job again
            time.sleep(POLL_S)

    runtime.in_background(work)
