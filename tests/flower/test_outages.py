"""Flower receives events again soon after its broker is back, however long that was away."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker import settings
from worker.queue import flower_events
from worker.queue.app import make_app
from worker.queue.flower_events import PersistentEvents


class Loop:
    """Calls at once what Flower's event loop would call."""

    def add_callback(self, callback: Callable[[], Any]) -> None:
        callback()


def test_flower_tries_steadily_while_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that grows would leave it blind for as long as the outage took."""
    monkeypatch.setattr(flower_events, "RETRY_S", 0.01)
    valkey = ValkeyServer()
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", valkey.url)
    app = make_app(settings.load())
    events = PersistentEvents(app, Loop(), enable_events=False, max_tasks_in_memory=10)
    events.start()

    def received(name: str) -> bool:
        with app.connection() as connection, app.events.Dispatcher(connection, hostname=name) as dispatcher:
            dispatcher.send("worker-heartbeat")
        return name in events.state.workers

    try:
        wait_until(lambda: received("before@host"), description="it listens")
        valkey.kill()
        wait_until(lambda: events.failures >= 20, description="it tries again and again", timeout_s=60)
        valkey.start()
        wait_until(lambda: received("after@host"), description="it listens again")
        assert events.failures == 0
    finally:
        app.close()
        valkey.close()
