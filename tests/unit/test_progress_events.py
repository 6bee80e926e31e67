"""Words of tasks reach whoever listens, at most twice a second, and hold up nobody: with a real broker, and without."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from tests.support.system import wait_until
from tests.support.task_events import listening
from tests.support.valkey import ValkeyServer
from worker.queue.app import make_app
from worker.queue.progress_events import ProgressEvents
from worker.settings import Settings


@dataclass(frozen=True)
class Tasks:
    """Tasks of one process that say what they are at."""

    app: Celery
    progress: ProgressEvents

    @contextmanager
    def task(self, run_id: str) -> Iterator[Callable[[int, str], None]]:
        """Be the task of a run."""
        kwargs = {"run_id": run_id, "session_id": "s", "team": "t"}
        task = SimpleNamespace(name="runs.execute", request=SimpleNamespace(id=run_id, kwargs=kwargs))
        with self.progress.track(task) as say:
            yield say

    @contextmanager
    def listening(self) -> Iterator[list[dict[str, Any]]]:
        """Listen, once something is heard."""
        with self.task("first") as say, listening(self.app, meanwhile=lambda: say(1, "words")) as events:
            yield events


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server that a test may kill."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture
def tasks(own_valkey: ValkeyServer) -> Iterator[Tasks]:
    """A process on that server."""
    app = make_app(Settings(redis_url=SecretStr(own_valkey.url)))
    made = Tasks(app, ProgressEvents(app, worker="w@h"))
    yield made
    made.progress.close()


def heard(events: list[dict[str, Any]], id: str) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == "task-progress" and e["uuid"] == id]


def test_the_newest_words_of_each_task_are_sent_with_its_ids(tasks: Tasks) -> None:
    """Of two hundred words a second at most two leave; the last ones arrive."""
    with tasks.listening() as events, tasks.task("r1") as say:
        began = time.monotonic()
        for n in range(400):
            say(2, f"turn {n}")
            time.sleep(0.005)
        wait_until(lambda: "turn 399" in [e["result"] for e in heard(events, "r1")], description="the last arrives")
        seconds = time.monotonic() - began
        told = heard(events, "r1")

    assert 2 <= len(told) <= 2 * seconds + 2
    assert {(e["hostname"], e["name"], e["attempt"], e["kwargs"]) for e in told} == {
        ("w@h", "runs.execute", 2, "{'run_id': 'r1', 'session_id': 's', 'team': 't'}")
    }


def test_a_task_that_has_returned_tells_its_attempt_and_no_words(tasks: Tasks) -> None:
    """They would stand behind its result."""
    with tasks.listening() as events:
        for n in range(20):  # between two sendings, but for one or two of them
            with tasks.task(f"short-{n}") as say:
                say(1, "words")
        wait_until(lambda: heard(events, "short-19"), description="all have arrived")

    told = [event for n in range(20) for event in heard(events, f"short-{n}")]
    assert {event["attempt"] for event in told} == {1}
    assert sum("result" in event for event in told) <= 2


@pytest.mark.processes
def test_nobody_waits_while_the_broker_is_frozen_or_gone(tasks: Tasks, own_valkey: ValkeyServer) -> None:
    """Words are taken all the same, and dropped; once the broker is back they arrive again."""
    with tasks.listening():
        pass

    def work() -> None:
        for n in range(100):
            with tasks.task(f"frozen-{n}") as say:
                say(1, "words")
                time.sleep(0.01)

    os.kill(own_valkey.pid, signal.SIGSTOP)
    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: not worker.is_alive(), description="no task waits for a socket's timeout, of 5 s each")
    os.kill(own_valkey.pid, signal.SIGCONT)
    own_valkey.kill()
    with tasks.task("gone") as say:
        say(1, "words")
        time.sleep(1)
    own_valkey.start()

    with tasks.listening() as events, tasks.task("back") as say:
        say(1, "words")
        wait_until(lambda: heard(events, "back"), description="words arrive again")
