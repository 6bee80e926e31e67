"""The Celery tasks, as Flower shows them. Each calls the code that does it, and returns its outcome without texts."""

from datetime import datetime
from typing import Any

from celery import Celery
from celery.exceptions import Reject

from worker.domain import End
from worker.errors import DatabaseUnavailable
from worker.observe import tracing
from worker.observe.outcomes import delivery
from worker.process.runtime import Runtime
from worker.queue.envelope import SENT_AT, TRACEPARENT, UNSUPPORTED
from worker.queue.progress_events import ProgressEvents
from worker.runs.background import execute_in_slot
from worker.runs.execute import execute
from worker.runs.intake import accept_order
from worker.runs.intake_decisions import accept_decisions
from worker.summaries.refresh import refresh


def register(app: Celery, runtime: Runtime, progress: ProgressEvents) -> None:
    """Give *app* the tasks of a worker; *progress* sends the progress of its runs."""

    @app.task(name="runs.execute", bind=True)  # type: ignore[untyped-decorator]  # celery has no types
    def execute_run(self: Any, run_id: str, session_id: str, team: str) -> str:
        """Execute a run until it ends, waits, or is handed over."""
        queue = _queue(self.request)
        with (
            delivery("attempt ended", queue=queue, run_id=run_id, session_id=session_id, team=team) as ended,
            progress.track(self) as report,
        ):
            if queue == "batch":
                outcome = ended(execute_in_slot(runtime, run_id, team, report=report))
            else:
                sent = (self.request.headers or {}).get(SENT_AT)
                sent_at = datetime.fromisoformat(sent) if sent else None
                outcome = ended(execute(runtime, run_id, team, sent_at=sent_at, report=report))
        if outcome.end is End.DATABASE_AWAY:
            raise Reject(requeue=True)  # another worker may reach the database
        return str(outcome)

    @app.task(name="summaries.refresh", bind=True)  # type: ignore[untyped-decorator]  # celery has no types
    def refresh_summary(self: Any, session_pk: int, session_id: str, team: str) -> str:
        """Bring a session's summary up to date."""
        with delivery("refresh ended", queue=_queue(self.request), session_id=session_id, team=team) as ended:
            return str(ended(refresh(runtime, session_pk, team)))

    # Its arguments hold text: it sends no events, and does not show its arguments when workers are inspected.
    @app.task(  # type: ignore[untyped-decorator]  # as above
        name="runs.enqueue", bind=True, send_events=False, Request="worker.queue.consumer:PrivateRequest"
    )
    def enqueue_run(self: Any, *args: Any, **order: Any) -> str:
        """Accept a run that another service sent through the broker, under the task's id as its idempotency key."""
        sent = order | {"positional arguments": len(args)} if args else order  # a field that is not known
        try:
            headers = self.request.headers or {}
            with tracing.enqueue_message(traceparent=headers.get(TRACEPARENT)):
                return accept_order(runtime, sent, key=self.request.id, options=headers.get(UNSUPPORTED, ()))
        except DatabaseUnavailable:
            raise Reject(requeue=True) from None  # back to the broker, which keeps it

    # Its arguments can hold text, too.
    @app.task(  # type: ignore[untyped-decorator]  # as above
        name="runs.continue", bind=True, send_events=False, Request="worker.queue.consumer:PrivateRequest"
    )
    def continue_run(self: Any, *args: Any, **fields: Any) -> str:
        """Decide about calls that a run waits for, as another service says through the broker."""
        sent = fields | {"positional arguments": len(args)} if args else fields
        try:
            return accept_decisions(runtime, sent)
        except DatabaseUnavailable:
            raise Reject(requeue=True) from None  # back to the broker, which keeps it


def _queue(request: Any) -> str | None:
    """Return the name of the queue from which a task came."""
    queue = (request.delivery_info or {}).get("routing_key")
    return queue if isinstance(queue, str) else None
