"""What becomes of a run that is accepted while its session has an unfinished one: `on_busy`.

Runs execute in the order of acceptance. An interactive run promotes the background runs before it: it would otherwise
wait for workers that execute them when they have time. With `pass` the caller asks for one exception: the runs that
wait for their `not_before` count as accepted after the new one.
"""

from dataclasses import replace

from worker.domain import NO_ORIGIN, Dispatch, OnBusy, Origin, Priority, Run, RunOrder, Status, run_dispatch
from worker.domain.run_order import BatchRun
from worker.errors import QueueFull, SessionBusy, SessionPaused
from worker.runs.cancel import end_or_ask
from worker.runs.finish import Head, pass_on
from worker.settings import Settings
from worker.store import Transaction, queue_order, sessions
from worker.store.queue_order import Ahead
from worker.store.sessions import AppendedRun


def join(tx: Transaction, order: RunOrder, *, origin: Origin, settings: Settings) -> str | None:
    """Join the input to the newest queued run of the session, and return its id; None: no such run can take it."""
    if order.session_id is None or origin != NO_ORIGIN or isinstance(order, BatchRun) or order.options.to_json():
        return None
    session = sessions.lock_by_id(tx, user_id=order.user_id or "", session_id=order.session_id)
    if session is None or session.team != order.team:
        return None
    return queue_order.join_input(tx, session.pk, order, limit=settings.max_input_bytes)


def check(tx: Transaction, order: RunOrder, appended: AppendedRun, *, settings: Settings, here: bool) -> Ahead:
    """Check that a busy session takes one more run, and return what is before it. *here*: its caller executes it.

    Raises:
        SessionBusy, QueueFull
        SessionPaused: its caller would wait for a decision.
    """
    if order.on_busy is OnBusy.REJECT:
        raise SessionBusy(session_id=order.session_id, run_id=appended.head_run_id)
    ahead = queue_order.ahead(tx, appended.head_run_id, position=appended.position)
    if here and ahead.paused and order.on_busy not in (OnBusy.INTERRUPT, OnBusy.ROLLBACK):
        raise SessionPaused(session_id=order.session_id, run_id=appended.head_run_id)
    if appended.position - ahead.head_position > settings.max_queued_per_session:
        setting = "TEAM_SESSIONS_MAX_QUEUED_PER_SESSION"
        raise QueueFull(whose=f"Session {order.session_id!r}", limit=settings.max_queued_per_session, setting=setting)
    return ahead


def wait_behind(
    tx: Transaction, order: RunOrder, appended: AppendedRun, ahead: Ahead, run: Run
) -> tuple[Run, tuple[Dispatch, ...]]:
    """Do what *order* asks of the runs before it, and promote those in the background if it is interactive.

    *order* names its session and its user. Returns the run, and the dispatches to send after the commit.
    """
    pk, head_run_id, first = appended.session_pk, appended.head_run_id, ahead.head_position
    moved = queue_order.move_waiting(tx, pk, run_id=run.id, first=first) if order.on_busy is OnBusy.PASS else []
    run = replace(run, position=next((m.position for m in moved if m.run_id == run.id), run.position))
    waiting = {run.position: run.priority} | {m.position: m.priority for m in moved}
    last_interactive = max((at for at, priority in waiting.items() if priority is Priority.INTERACTIVE), default=0)
    promoted = None
    if last_interactive and (ahead.background or moved):
        promoted = queue_order.promote(tx, pk, head_run_id=head_run_id, first=first, before=last_interactive)
    if order.on_busy in (OnBusy.INTERRUPT, OnBusy.ROLLBACK):
        return run, end_or_ask(tx, head_run_id, rolled_back=order.on_busy is OnBusy.ROLLBACK)
    session_id = run.session_id
    if any(m.run_id == head_run_id for m in moved):
        session = sessions.lock_by_id(tx, user_id=run.user_id, session_id=session_id)
        assert session is not None
        passed = Head(head_run_id, pk, session_id, run.team, first - 1, 0, Status.QUEUED)
        return run, pass_on(tx, passed, last_seq=session.last_seq)
    if promoted is None:
        return run, ()
    attempt, sent_at = promoted.attempt, promoted.sent_at
    return run, (run_dispatch(head_run_id, session_id=session_id, team=run.team, attempt=attempt, sent_at=sent_at),)
