"""The progress of this process's tasks, as Celery task events, for Flower and similar monitors.

A task only stores its newest progress here. One thread sends all of it, at most twice a second, so no run waits for the
broker or fails with it. While the broker is away progress is dropped, since newer progress follows.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from worker.observe import logs

PAUSE_S = 0.5
ENOUGH = 10_000  # events in one message: more than a process has tasks

log = logs.get(__name__)


class ProgressEvents:
    """The newest progress of each task, and the thread that sends it. *worker* is the worker's name in monitors."""

    def __init__(self, app: Celery, *, worker: str) -> None:
        self._app = app
        self._worker = worker
        self._newest: dict[str, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_forever, name="progress", daemon=True)
        self._thread.start()

    @contextmanager
    def track(self, task: Any) -> Iterator[Callable[[int, str], None]]:
        """Return a function with which a task reports its attempt and its progress inside the block.

        Each event repeats the task's name and ids, for a monitor that starts in the middle of a run. When the task
        returns, progress that was not sent yet is dropped, and only its attempt is sent.
        """
        request = task.request
        ids = {"uuid": request.id, "name": task.name, "kwargs": repr(request.kwargs)}

        def report(attempt: int, text: str) -> None:
            with self._changed:
                if not self._newest:  # else the thread is awake, or will be
                    self._changed.notify()
                self._newest[request.id] = {**ids, "attempt": attempt, "result": text}

        try:
            yield report
        finally:
            with self._changed:
                if request.id in self._newest:
                    del self._newest[request.id]["result"]

    def close(self) -> None:
        """Stop sending. Do not wait for a send in progress, which can take as long as the broker's timeouts."""
        with self._changed:
            self._closing.set()
            self._changed.notify()

    def _send_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._closing.is_set())
                newest, self._newest = self._newest, {}
            if self._closing.is_set():
                return
            try:
                self._send(list(newest.values()))
            except Exception as error:  # noqa: BLE001 - Redis errors may be imported by worker.events only; each means "away"
                log.debug("progress dropped", count=len(newest), error=error)
            self._closing.wait(PAUSE_S)

    def _send(self, events: list[dict[str, Any]]) -> None:
        with self._app.events.default_dispatcher(hostname=self._worker) as dispatcher:
            dispatcher.buffer_group, dispatcher.buffer_limit = {"task"}, ENOUGH
            for event in events:
                dispatcher.send("task-progress", **event)
            dispatcher.flush(errors=False)
