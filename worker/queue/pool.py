"""The thread pool of a worker: as Celery's, but a thread that cannot be started loses no task.

Python's executor queues a task before it starts a thread for it. If that fails, a thread that is there takes the task
when it is free. Meanwhile the sweep sends the run again, so another worker may take it first.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency import thread

from worker.observe import exhaustion


class TaskPool(thread.TaskPool):  # type: ignore[misc]  # celery has no types
    """A pool that has one thread from its start."""

    executor: ThreadPoolExecutor

    def on_start(self) -> None:
        """Start the first thread, which takes the tasks of those that cannot be started.

        Raises:
            RuntimeError: there is none.
        """
        super().on_start()
        self.executor.submit(int).result()

    def on_apply(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a task on a thread."""
        try:
            return super().on_apply(*args, **kwargs)
        except RuntimeError as error:
            if exhaustion.found(error) is None:
                raise
            return None  # it is queued
