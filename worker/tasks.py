"""The Celery tasks, as Flower shows them. Each hands over to a room and returns a few words without message text."""

from datetime import datetime
from typing import Any

from celery import Celery

from worker.process.runtime import Runtime
from worker.queue.dispatch import SENT_AT
from worker.runs.execute import execute
from worker.summaries.refresh import refresh


def register(app: Celery, runtime: Runtime) -> None:
    """Give *app* the tasks of a worker."""

    @app.task(name="runs.execute", bind=True)  # type: ignore[untyped-decorator]  # celery has no types
    def execute_run(self: Any, run_id: str, session_id: str, team: str) -> str:
        """Execute a run as far as it goes."""
        sent_at = (self.request.headers or {}).get(SENT_AT)
        return execute(runtime, run_id, team, sent_at=datetime.fromisoformat(sent_at) if sent_at else None)

    @app.task(name="summaries.refresh")  # type: ignore[untyped-decorator]  # celery has no types
    def refresh_summary(session_pk: int, session_id: str, team: str) -> str:
        """Bring a session's summary up to date."""
        return refresh(runtime, session_pk, team)
