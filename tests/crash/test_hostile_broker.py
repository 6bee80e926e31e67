"""Whatever a worker reads from its broker, it goes on; whatever makes it stop, it hands its runs over at once."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from api_stub.client import Client
from tests.crash.test_dead_consumers import start_breakable, tell_to_break
from tests.support import look
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes
LONG = "[words=3000] [pace=0.05] go"  # 150 s; it ends when it is cancelled
QUEUES = ("runs", "enqueue")
JUNK = [
    *(b"", b"hello", b"\xff\xfe\x00x", b"{}", b"[]", b"null", b"5", b'"x"', b"[" * 5000, b"1" * 5000),
    *(b'{"body":1}', b'{"body":"x","properties":{}}', b'{"body":"x","properties":{"delivery_tag":"t"}}'),
    b'{"body":"W10=","properties":{"delivery_tag":"t","delivery_info":{},"body_encoding":"base64"},"headers":5}',
    b'{"properties":{"delivery_tag":["t"],"delivery_info":{"exchange":"runs","routing_key":"runs"}},"body":"e30="}',
    b'{"properties":{"delivery_tag":"t","priority":1e999,"delivery_info":["x"]},"body":"e30=","headers":{"task":{}}}',
]


class Installation:
    """A worker with a long run in flight, and the broker that will not behave."""

    def __init__(self, running: System, valkey: ValkeyServer) -> None:
        self.running = running
        self.valkey = valkey
        self.redis = Redis.from_url(valkey.url)
        self.client: Client = running.start_api()
        self.long = self.client.enqueue("plain", LONG, session_id="long", user_id="u")["id"]
        self.wait_for_long()

    def wait_for_long(self, *, attempt: int = 1) -> None:
        """Wait until the long run is executed for the *attempt*-th time."""

        def is_running() -> bool:
            row = look.row(self.running.db, self.long)
            return (row.status, row.attempt) == ("running", attempt)

        wait_until(is_running, description=f"the long run is in attempt {attempt}")

    def check_goes_on(self) -> None:
        """Assert that another run is executed, while the long run was not lost."""
        run = self.client.enqueue("plain", "hello", user_id="u")
        assert self.client.run(run["id"], wait_s=60)["status"] == "completed"
        row = look.row(self.running.db, self.long)
        assert (row.status, row.attempt, row.losses) == ("running", 1, 0)

    def end(self) -> None:
        """End the long run."""
        self.client.cancel(self.long)
        assert self.client.run(self.long, wait_s=60)["status"] == "cancelled"

    def command(self, *words: str) -> None:
        """Send a command to the broker as it stands."""
        self.redis.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no type for it


@pytest.fixture
def installation(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    """One worker that consumes runs and orders, on a broker of its own."""
    with (
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=database_url, redis_url=valkey.url) as running,
    ):
        running.start_worker(queues="resumed,runs,enqueue")
        yield Installation(running, valkey)


@pytest.mark.default_on("sqlite")
def test_a_message_that_is_no_task_stops_nothing(installation: Installation) -> None:
    """In queues of both kinds, and in the channels of remote control and events: dropped, counted, nothing left."""
    worker = installation.running.workers[0]

    for junk in JUNK:
        for queue in QUEUES:
            installation.redis.lpush(queue, junk)
        for channel in ("/0.celery.pidbox", "/0.celeryev/worker.heartbeat"):
            installation.redis.publish(channel, junk)
    dropped = 'dropped: it cannot be read", "queue": "'
    for queue in QUEUES:
        wait_until(lambda q=queue: not installation.redis.llen(q), description=f"{queue} is empty")  # type: ignore[misc]
    installation.check_goes_on()

    log = installation.running.log("worker-1")
    assert log.count(dropped) >= len(JUNK) * len(QUEUES)
    assert "lost" not in log
    assert worker.poll() is None
    installation.end()
    wait_until(lambda: not installation.redis.hlen("unacked"), description="nothing is left")


def is_refused(installation: Installation) -> bool:
    """Tell whether the worker has met the refusal."""
    log = installation.running.log("worker-1")
    return "Connection to broker lost" in log or "Cannot connect" in log


def unblock(installation: Installation) -> None:
    """End the worker's BRPOP with an error."""
    for client in installation.redis.client_list():
        if client["cmd"].lower() == "brpop":
            installation.command("CLIENT", "UNBLOCK", client["id"], "ERROR")


def cut(installation: Installation) -> None:
    """Close every connection but that of the test."""
    installation.redis.client_kill_filter(_type="normal", skipme=True)


def change_password(installation: Installation) -> None:
    """Refuse the password of all, in new connections."""
    installation.redis.config_set("requirepass", "another")
    cut(installation)


def restore_password(installation: Installation) -> None:
    """Take the old password again."""
    installation.redis.config_set("requirepass", installation.valkey.password)


def command(*words: str) -> Callable[[Installation], None]:
    """Return a function that sends a command to the broker."""
    return lambda installation: installation.command(*words)


# What refuses, and what ends that.
REFUSALS: dict[str, tuple[Callable[[Installation], None], Callable[[Installation], None]]] = {
    "read-only": (command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")),
    "no replica": (
        command("CONFIG", "SET", "min-replicas-to-write", "1"),
        command("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
    "unblocked": (unblock, lambda _: None),
    "BRPOP refused": (command("ACL", "SETUSER", "default", "-brpop"), command("ACL", "SETUSER", "default", "+brpop")),
    "all refused": (
        command("ACL", "SETUSER", "default", "-@all", "+acl"),
        command("ACL", "SETUSER", "default", "+@all"),
    ),
    "other password": (change_password, restore_password),
    "connections closed": (cut, lambda _: None),
}


@pytest.mark.parametrize(
    "how", ["read-only", *(pytest.param(how, marks=pytest.mark.extended) for how in REFUSALS if how != "read-only")]
)
@pytest.mark.default_on("sqlite")
def test_a_refusal_of_the_broker_stops_nothing(installation: Installation, how: str) -> None:
    """Whatever it answers: the worker connects again each second, and its runs go on."""
    refuse, recover = REFUSALS[how]

    refuse(installation)
    wait_until(lambda: is_refused(installation), description="the worker has met it")
    recover(installation)
    recovered_at = time.monotonic()
    installation.check_goes_on()

    assert installation.running.workers[0].poll() is None
    assert time.monotonic() - recovered_at < 20, "half a minute is what the watchdog takes"
    installation.end()


@pytest.mark.extended
def test_a_broker_that_is_full_is_still_read(installation: Installation) -> None:
    """It takes no message, and cannot note that one was received: what waits in its queues is executed all the same."""
    worker = installation.running.workers[0]
    installation.running.freeze(worker.pid)
    with Celery("other", broker=installation.valkey.url, set_as_current=False) as app:
        for n in range(3):
            order = {"team": "plain", "input": "hello"}
            app.send_task("runs.enqueue", task_id=f"k{n}", queue="enqueue", kwargs=order)
    installation.redis.config_set("maxmemory", "1")
    os.kill(worker.pid, signal.SIGCONT)

    def accepted() -> int:
        return len(look.rows(installation.running.db)) - 1

    wait_until(lambda: accepted() == 3, description="the orders are accepted")
    assert "delivered without a copy" in installation.running.log("worker-1")
    installation.redis.config_set("maxmemory", "0")
    run = installation.client.enqueue("plain", "hello", user_id="u")
    assert installation.client.run(run["id"], wait_s=60)["status"] == "completed"
    installation.end()


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("revoke", {"task_id": "RUN", "terminate": True, "signal": "KILL"}),
    ("terminate", {"task_id": "RUN", "signal": "KILL"}),
    ("pool_shrink", {"n": 20}),
    ("pool_restart", {}),
    ("autoscale", {"max": 1, "min": 0}),
    ("cancel_consumer", {"queue": "runs"}),
    ("rate_limit", {"task_name": "runs.execute", "rate_limit": "1/h"}),
    ("time_limit", {"task_name": "runs.execute", "hard": 1, "soft": 1}),
    ("hello", {"from_node": "x", "revoked": {"RUN": 1}}),
    ("no_such_command", {}),
    ("ping", {"x": "y"}),
]


@pytest.mark.extended
def test_a_command_of_remote_control_changes_nothing(installation: Installation) -> None:
    """It neither ends a run nor lets the worker do less; what monitors ask is answered."""
    with Celery("other", broker=installation.valkey.url, set_as_current=False) as app:
        for name, arguments in COMMANDS:
            text = json.dumps(arguments).replace("RUN", f"{installation.long}.1")
            app.control.broadcast(name, arguments=json.loads(text))
        answers = app.control.inspect(timeout=5).stats()

    installation.check_goes_on()

    assert len(answers or {}) == 1
    installation.end()


STOPS: dict[str, list[int]] = {
    "SIGHUP": [signal.SIGHUP],
    "SIGQUIT": [signal.SIGQUIT],
    "SIGUSR2": [signal.SIGUSR2],
    "SIGINT": [signal.SIGINT],
    "three signals": [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT],
    "shutdown": [],
    "an error": [],
}


@pytest.mark.parametrize(
    "how", ["SIGHUP", *(pytest.param(how, marks=pytest.mark.extended) for how in STOPS if how != "SIGHUP")]
)
def test_a_worker_that_stops_hands_its_runs_over_at_once(running: System, valkey: ValkeyServer, how: str) -> None:
    """Whatever makes it stop, its run goes on in another worker, and is not lost to its lease."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # below nohup it is ignored, in child processes too
    worker = start_breakable(running)
    signal.signal(signal.SIGHUP, before)
    installation = Installation(running, valkey)
    running.start_worker()

    for number in STOPS[how]:
        worker.send_signal(number)
    if how == "shutdown":
        # A connection of its own: those of kombu's pool may have been closed by an earlier test.
        with Celery("other", broker=valkey.url, set_as_current=False) as app, app.connection() as connection:
            answers = app.control.inspect(timeout=5, connection=connection).ping() or {}
            name = next(name for name in answers if str(worker.pid) in name)
            app.control.shutdown(destination=[name], connection=connection)
    if how == "an error":
        tell_to_break(running, "raise_past_the_net")
        cut(installation)
    installation.wait_for_long(attempt=2)
    code = worker.wait(timeout=120)

    row = look.row(running.db, installation.long)
    assert (row.attempt, row.losses) == (2, 0)
    assert code == (1 if how == "an error" else 0)
    installation.end()
