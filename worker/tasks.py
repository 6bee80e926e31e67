"""The Celery tasks, as Flower shows them. Each hands over to a room and returns a few words without message text."""

from celery import Celery

from worker.runs.execute import execute
from worker.runs.runtime import Runtime


def register(app: Celery, runtime: Runtime) -> None:
    """Give *app* the tasks of a worker."""

    @app.task(name="runs.execute")  # type: ignore[untyped-decorator]  # celery has no types
    def execute_run(run_id: str, session_id: str, team: str) -> str:
        """Execute a run as far as it goes."""
        return execute(runtime, run_id, team)
