"""The Celery door: orders of a program that knows nothing of ours, through the broker, as the task `runs.enqueue`."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from celery import Celery, signature
from redis import Redis
from sqlalchemy import text

from api_stub.client import Client
from tests.support import look
from tests.support.postgres import PostgresServer
from tests.support.system import ROOT, System, wait_until
from tests.support.task_events import listening
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes
QUEUES = "enqueue,batch,summaries"
SECRET = "words of a user"
EXAMPLE = ROOT / "ops/examples/enqueue_by_celery.py"


@dataclass(frozen=True)
class Shop:
    """Another program: a plain Celery app on the same broker, and what it sees over HTTP."""

    system: System
    client: Client
    app: Celery
    broker: str

    def send(self, key: str, /, **order: Any) -> None:
        """Order a run of team 'plain'."""
        self.send_raw(key, kwargs={"team": "plain", "input": SECRET} | order)

    def send_raw(self, key: str, **options: Any) -> None:
        self.app.send_task("runs.enqueue", task_id=key, queue="enqueue", argsrepr="", kwargsrepr="", **options)

    def publish(self, body: bytes, **headers: Any) -> None:
        """Put a message into the queue as it is."""
        with self.app.connection_for_write() as connection:
            producer = connection.Producer()
            producer.publish(
                body,
                exchange="enqueue",
                routing_key="enqueue",
                headers=headers,
                content_type="application/json",
                content_encoding="utf-8",
            )

    def under(self, key: str) -> dict[str, Any] | None:
        """Return the only run that was accepted under a key, or None."""
        headers = {"Authorization": f"Bearer {self.system.key}"}
        answer = httpx2.get(f"{self.system.url}/v1/runs", params={"idempotency_key": key}, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        found = answer.json()["data"]
        assert len(found) <= 1
        return dict(found[0]) if found else None

    def run(self, key: str) -> dict[str, Any]:
        """Wait for the run under a key, and for its end."""
        found = wait_until(lambda: self.under(key), description=f"there is a run under {key}")
        return self.client.run(found["id"], wait_s=60)

    def logs(self) -> str:
        """Return all that workers have printed."""
        return "".join(self.system.log(f"worker-{n + 1}") for n in range(len(self.system.workers)))


@pytest.fixture
def shop(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[Shop]:
    """A worker for the door and one for runs, at the most talkative log level."""
    system = System(
        tmp_path, database_url=database_url, redis_url=valkey.url, settings={"TEAM_SESSIONS_LOG_LEVEL": "DEBUG"}
    )
    system.start_worker(queues=QUEUES)
    system.start_worker()
    with Celery("shop", broker=valkey.url, set_as_current=False) as app:
        yield Shop(system, system.start_api(), app, valkey.url)
    system.close()


def test_the_example_enqueues_a_run(shop: Shop) -> None:
    """As it stands in the repository, without our code on its path; sent twice with one id it is one run."""
    command = [sys.executable, "-I", str(EXAMPLE), "plain", "Hello, I am Ada.", "order-17", "ada", "parcel"]
    environment = {"SHOP_BROKER_URL": shop.broker, "PATH": ""}

    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "sent: order-17\n"), done.stderr
    run = shop.run("order-17")
    wait_until(lambda: shop.logs().count("order accepted") == 2, description="both were taken")

    assert (run["status"], run["user_id"], run["session_id"]) == ("completed", "ada", "parcel")
    assert "Ada" in run["output"]
    assert look.only_run(shop.system.db) == run["id"]


def test_an_order_brings_state_and_dependencies(shop: Shop) -> None:
    """By the names that they have over HTTP."""
    options = {"session_state": {"city": "Rome"}, "dependencies": {"plan": "pro"}}

    shop.send("with-options", session_id="with-options", user_id="ada", **options)
    run = shop.run("with-options")

    assert run["status"] == "completed"
    assert look.row(shop.system.db, run["id"]).options == options


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "empty": ("empty_input", {"input": " "}),
    "no-input": ("order_invalid", {"input": None}),
    "unknown-team": ("unknown_team", {"team": "nobody"}),
    "unknown-field": ("order_invalid", {"colour": "red"}),
    "nul-field": ("order_invalid", {"a\0b": "red"}),
    "other-team": ("session_of_other_team", {"session_id": "taken", "user_id": "u", "team": "remembers"}),
    "busy": ("session_busy", {"session_id": "busy", "user_id": "u", "on_busy": "reject"}),
    "too-large": ("input_too_large", {"input": "x" * 1_048_577}),
    "long-user": ("invalid_identifier", {"user_id": "u" * 300}),
    "no-such-choice": ("order_invalid", {"on_busy": "whatever"}),
    "no-time": ("order_invalid", {"not_before": "soon"}),
    "time-before-time": ("invalid_time", {"not_before": "0001-01-01T00:00:00+14:00"}),
    "naive-time": ("invalid_time", {"not_before": "2030-01-01T00:00:00"}),
    "timeout": ("invalid_time", {"timeout": float("nan")}),
}

# Options of a Celery call that no worker honours, by their names in the reason.
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "link": {"link": signature("shop.next")},
    "link_error": {"link_error": signature("shop.failed")},
    "chain": {"chain": [signature("shop.next")]},
    "chord": {"chord": signature("shop.all")},
    "countdown": {"countdown": 30},
    "expires": {"expires": 1},
    "compression": {"compression": "zlib"},
}


def test_a_refused_order_is_found_by_its_key(shop: Shop) -> None:
    """As a failed run with the code, and with what can be kept of it; sent again it stays refused."""
    shop.send("first", session_id="taken", user_id="u")
    shop.send("second", session_id="busy", user_id="u", input="wait [delay=60]")
    shop.run("first")
    wait_until(lambda: shop.under("second"), description="the session is busy")

    order = {"team": "plain", "input": SECRET}
    for _ in range(2):
        for key, (_code, fields) in REFUSED.items():
            shop.send(key, **fields)
        shop.send_raw("positional", args=["plain", SECRET])
        for key, options in UNSUPPORTED.items():
            shop.send_raw(key, kwargs=order, **options)
    found = {key: shop.run(key) for key in [*REFUSED, "positional", *UNSUPPORTED]}
    shop.send("first", input="", user_id="u")  # another order under a key that was taken
    wait_until(
        lambda: '"code": "idempotency_conflict"' in shop.logs(), description="an order under another's key is refused"
    )
    shop.send("k" * 256)
    wait_until(lambda: '"code": "invalid_identifier"' in shop.logs(), description="a key that is none is refused")

    codes = {key: code for key, (code, _fields) in REFUSED.items()} | {"positional": "order_invalid"}
    codes |= dict.fromkeys(UNSUPPORTED, "order_invalid")
    assert {key: run["error"]["code"] for key, run in found.items()} == codes
    assert {run["status"] for run in found.values()} == {"failed"}
    assert all(key in found[key]["error"]["message"] for key in UNSUPPORTED), "the option is named"
    assert "look up the run by its key" in found["link"]["error"]["message"]
    assert found["unknown-team"]["input"] == SECRET
    assert len(found["too-large"]["input"]) <= 1_048_576
    assert (shop.under("first") or {})["status"] == "completed"
    assert "raised unexpected" not in shop.logs()
    assert SECRET not in shop.logs()


@pytest.mark.extended
def test_an_order_that_meets_a_fault_of_ours_is_found_too(shop: Shop) -> None:
    """A database that refuses the row, which nobody foresaw: nothing is acknowledged without a trace."""
    with shop.system.db.write() as tx:
        if shop.system.db.is_sqlite:
            cursed = "BEFORE INSERT ON sessions WHEN NEW.session_id = 'cursed'"
            tx.exec_driver_sql(f"CREATE TRIGGER cursed {cursed} BEGIN SELECT RAISE(ABORT, 'cursed'); END")
        else:
            tx.exec_driver_sql("ALTER TABLE team_sessions.sessions ADD CHECK (session_id <> 'cursed')")

    shop.send("unlucky", session_id="cursed")
    found = shop.run("unlucky")

    assert (found["status"], found["error"]["code"], found["input"]) == ("failed", "internal", SECRET)
    assert SECRET not in shop.logs()


UNREADABLE = [
    (f'[[], {{"input": "{SECRET}"}}, {{}}]'.encode(), {"task": "runs.unknown", "id": "x1"}),
    (f'[[], {{"input": "{SECRET}"'.encode(), {"task": "runs.enqueue", "id": "x2"}),
    (f'"{SECRET}'.encode() + b'\xff\xfe"', {"task": "runs.enqueue", "id": "x3"}),
    (f'["{SECRET}", "{SECRET}", {{}}]'.encode(), {"task": "runs.enqueue", "id": "x4"}),
    (f'{{"input": "{SECRET}"}}'.encode(), {"task": "runs.enqueue", "id": "x5"}),
    (f'{{"input": "{SECRET}"}}'.encode(), {}),
    (f'{{"input": "{SECRET}"'.encode(), {}),
    (f'{{"task": "runs.enqueue", "id": "x6", "args": ["{SECRET}"], "kwargs": 5}}'.encode(), {}),
    (
        f'[[], {{"team": "plain", "input": "{SECRET}"}}, {{}}]'.encode(),
        {"task": "runs.enqueue", "id": "x7", "eta": "?"},
    ),
]


def test_what_cannot_be_read_is_not_printed(shop: Shop) -> None:
    """Messages of no task, of no JSON, of no arguments: the worker goes on, and its log shows nothing of them."""
    for body, headers in UNREADABLE:
        shop.publish(body, **(headers and headers | {"lang": "py", "kwargsrepr": SECRET}))
    shop.send("after", input="hello")

    run = shop.run("after")

    assert run["status"] == "completed"
    assert shop.logs().count("message dropped") == len(UNREADABLE) - 1, "x7 is refused, whatever its time is"
    assert SECRET not in shop.logs()
    with Redis.from_url(shop.broker) as redis:
        wait_until(lambda: not redis.hlen("unacked"), description="nothing of it comes back")


SHOWN = {"task-received", "task-succeeded"}


@pytest.mark.extended
def test_nobody_who_watches_the_workers_sees_an_orders_text(shop: Shop) -> None:
    """Neither in events nor in what workers answer about tasks that are active or reserved."""
    with listening(shop.app) as events:
        inspect = shop.app.control.inspect(timeout=2)

        with shop.system.db.write() as tx:  # orders wait for the database, and stand at work
            if not shop.system.db.is_sqlite:
                tx.execute(text("LOCK TABLE team_sessions.idempotency"))
            for n in range(3):
                shop.send(f"k{n}")
            active = wait_until(lambda: _tasks(inspect.active()), description="orders are at work")
            told = [active, _tasks(inspect.reserved()), [inspect.query_task("k0")]]
        for n in range(3):
            assert shop.run(f"k{n}")["status"] == "completed"
        for n in range(3, 30):  # the listener may have missed some
            if {event["type"] for event in events} >= SHOWN:
                break
            shop.send(f"k{n}")
            assert shop.run(f"k{n}")["status"] == "completed"

    assert {task["name"] for task in active} == {"runs.enqueue"}
    assert SECRET not in json.dumps(told, default=str)
    assert {event["type"] for event in events} >= SHOWN, "runs are shown"
    assert SECRET not in json.dumps(events, default=str)
    assert SECRET not in shop.logs()


def _tasks(answer: Any) -> list[dict[str, Any]]:
    return [task for tasks in (answer or {}).values() for task in tasks]


@pytest.mark.extended
def test_an_order_outlives_the_database_and_its_worker(tmp_path: Path, valkey: ValkeyServer) -> None:
    """The database goes away; the worker gives the orders that it took back to the broker, and is stopped."""
    postgres = PostgresServer(durable=True)
    system = System(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url)
    first = system.start_worker(queues=QUEUES, concurrency=4)
    client = system.start_api()
    with Celery("shop", broker=valkey.url, set_as_current=False) as app:
        shop = Shop(system, client, app, valkey.url)

        postgres.stop(mode="immediate")
        for n in range(10):
            shop.send(f"k{n}", input=f"hello {n}")
        wait_until(lambda: "taking no deliveries" in shop.logs(), description="it takes no more")
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=120)
        postgres.start()
        system.start_worker(queues="enqueue,resumed,runs")
        runs = [shop.run(f"k{n}") for n in range(10)]

    assert [run["status"] for run in runs] == ["completed"] * 10
    assert SECRET not in shop.logs()
    system.close()
    postgres.close()
