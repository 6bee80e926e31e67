"""Cancel a run: at once if no process executes it, else by asking the process that does.

The user's text is kept, and so is what the run wrote.
"""

from worker.domain import SERVICE, Dispatch, Draft, Principal, Role, Run, Status
from worker.errors import RunNotFound
from worker.loop.unanswered import unanswered
from worker.observe import metrics
from worker.runs.finish import Ending, Head, end_head
from worker.store import Database, Transaction, messages, pending_calls, runs, sessions

BECAUSE = "the run was cancelled"


def cancel(
    db: Database, run_id: str, *, principal: Principal = SERVICE, user_id: str | None = None
) -> tuple[Run, tuple[Dispatch, ...]]:
    """Cancel a run, and return its new state, and the dispatch of the next head if there is one.

    A terminal run stays unchanged. A queued one is cancelled at once, and so is a running one whose lease has expired.
    For any other, the process that executes it is asked to end it, and does so within a second.

    Raises:
        RunNotFound, UserForbidden
    """
    with db.write() as tx:
        before = runs.get(tx, run_id, principal=principal, user_id=user_id)
        if before is None:
            raise RunNotFound(run_id=run_id)
        dispatches = end_or_ask(tx, run_id)
        after = runs.get(tx, run_id, principal=principal, user_id=user_id)
    if after is None:
        raise RunNotFound(run_id=run_id)
    if after.status is not before.status:
        metrics.RUNS_ENDED.labels("", after.status).inc()
    return after, dispatches


def end_or_ask(tx: Transaction, run_id: str, *, rolled_back: bool = False) -> tuple[Dispatch, ...]:
    """Cancel a run that has not ended, or ask its process to; return the dispatches to send after the commit.

    *rolled_back*: it is left out of later contexts and summaries.
    """
    session = sessions.lock_of_run(tx, run_id)
    run = runs.lock(tx, run_id) if session is not None else None
    if session is None or run is None or run.status.terminal:
        return ()
    if rolled_back:
        runs.exclude(tx, run_id)
    if run.status is Status.RUNNING and not run.expired:
        runs.request_cancel(tx, run_id)
    elif session.head_run_id != run_id:
        runs.end_queued(tx, run_id, status=Status.CANCELLED)
    else:
        return _end_now(tx, session, run)
    return ()


def _end_now(tx: Transaction, session: sessions.LockedSession, run: runs.Unfinished) -> tuple[Dispatch, ...]:
    if run.first_seq is None or run.last_seq is None:
        drafts = [Draft(Role.USER, session.user_id, run.input)]
    else:
        log = messages.of_run(tx, session_pk=session.pk, first_seq=run.first_seq, last_seq=run.last_seq)
        drafts = unanswered(log, because=BECAUSE, never_made=pending_calls.close(tx, run.id))
    head = Head(run.id, session.pk, session.session_id, session.team, run.position, run.fence, run.status)
    _, dispatches = end_head(tx, head, Ending(Status.CANCELLED, drafts))
    return dispatches
