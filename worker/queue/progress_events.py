"""What the tasks of this process are at, as task events, for Flower and its like.

A task only leaves its newest words here, and one thread sends them, together and at most twice a second: no run waits
for the broker, and none fails by it. While the broker is away words are dropped, since newer ones come.
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
    """The newest words of each task, and the thread that sends them. *worker*: the name under which it is known."""

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
        """Give a task, for the block, what it tells its attempt and its words to.

        Each event names the task and its ids again: whoever begins to watch in the middle of a run misses nothing.
        When the task returns, words that were not sent yet are dropped, and its attempt is sent alone.
        """
        request = task.request
        about = {"uuid": request.id, "name": task.name, "kwargs": repr(request.kwargs)}

        def say(attempt: int, words: str) -> None:
            with self._changed:
                self._newest[request.id] = {**about, "attempt": attempt, "result": words}
                self._changed.notify()

        try:
            yield say
        finally:
            with self._changed:
                if request.id in self._newest:
                    del self._newest[request.id]["result"]

    def close(self) -> None:
        """Stop sending. What is being sent may take as long as the broker's timeouts, and is not waited for."""
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
            except Exception as error:  # noqa: BLE001 - the client's errors belong to another room; each means "away"
                log.debug("progress dropped", count=len(newest), error=error)
            self._closing.wait(PAUSE_S)

    def _send(self, events: list[dict[str, Any]]) -> None:
        with self._app.events.default_dispatcher(hostname=self._worker) as dispatcher:
            dispatcher.buffer_group, dispatcher.buffer_limit = {"task"}, ENOUGH
            for event in events:
                dispatcher.send("task-progress", **event)
            dispatcher.flush(errors=False)
