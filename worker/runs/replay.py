"""Replay a run: give its input to the current team, in a fork of its session.

A fork is a separate session, which no list shows and which is erased with the session of the earlier run. History is
append-only, so nothing is copied: the replay sees the messages before the earlier run (`runs.session_history`), and
writes to the fork. Unless it executes its tools, their calls get the results of that time (`loop.recorded`); a call
without such a result fails the replay with `replay_diverged`.
"""

from dataclasses import replace

from worker.domain import SERVICE, Origin, Priority, Replay, new_id, order_again
from worker.errors import RunNotFound, RunNotRetryable
from worker.runs.enqueue import Accepted, enqueue_in
from worker.settings import Settings
from worker.store import Transaction, runs, sessions


def replay_in(tx: Transaction, source_run_id: str, *, execute_tools: bool, settings: Settings) -> Accepted:
    """Accept the input of an ended run again, in a new fork, in the caller's transaction.

    It is a background run. This locks the session of the earlier run, and writes nothing to it. The fork begins with
    the session's current state: the state of that time is not recorded, nor what tools changed in it. A replay that
    does not execute tools therefore leaves their changes out.

    Raises:
        RunNotFound
        RunNotRetryable: it has not ended; or it was cancelled while it was queued, and follows one that has not.
    """
    session = sessions.lock_of_run(tx, source_run_id)
    source = runs.get(tx, source_run_id, principal=SERVICE)
    if session is None or source is None:
        raise RunNotFound(run_id=source_run_id)
    if not source.status.terminal or runs.viewpoint(tx, source_run_id) is None:
        requirement = "A run can be replayed when it and all earlier runs of its session have ended"
        raise RunNotRetryable(run_id=source_run_id, status=source.status, requirement=requirement)
    fork_id = new_id("fork")
    sessions.fork(tx, session.pk, session_id=fork_id)
    order = replace(order_again(source, priority=Priority.BACKGROUND), session_id=fork_id)
    origin = Origin(replay=Replay(source_run_id, execute_tools))
    return enqueue_in(tx, order, settings=settings, origin=origin)
