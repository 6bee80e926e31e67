"""A running `team-sessions up`, and its doors: the API, the broker, Flower."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from celery import Celery
from redis import Redis

from tests.support.collector import Collector, collector
from tests.support.system import PROGRAM, System, system, wait_until
from worker.queue.embedded import free_port

MAX_INPUT = 10_000
USER = "u-marks"


@dataclass(frozen=True)
class House:
    """What tests of threats ask and look into."""

    system: System
    process: psutil.Process
    data: Path
    temporary: Path
    port: int
    broker: str
    http: httpx2.Client
    flower: httpx2.Client
    shop: Celery
    traces: Collector

    def processes(self) -> list[psutil.Process]:
        """Return `up` and its descendants."""
        return [self.process, *self.process.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        return [p for p in self.process.children() if "worker" in p.cmdline()]

    def log(self) -> str:
        """Return all that any process of it has printed."""
        return self.system.log("up")

    def enqueue(self, team: str, input: str, **fields: Any) -> str:
        """Have a run accepted and return its id."""
        body = {"team": team, "input": input, "user_id": USER, **fields}
        answer = self.http.post("/v1/runs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def ended(self, run_id: str) -> dict[str, Any]:
        """Return a run once it has ended."""
        run = self.http.get(f"/v1/runs/{run_id}", params={"wait": 60}).json()
        assert run["finished_at"], run
        return dict(run)

    def order(self, key: str, /, **order: Any) -> None:
        """Send an order through the broker, as another program would."""
        options = {"argsrepr": "", "kwargsrepr": "", "queue": "enqueue"}
        self.shop.send_task("runs.enqueue", kwargs=order, task_id=key, **options)

    def under(self, key: str) -> dict[str, Any]:
        """Return the ended run that was accepted under a key."""

        def found() -> list[dict[str, Any]]:
            listed = self.http.get("/v1/runs", params={"idempotency_key": key}).json()["data"]
            return [run for run in listed if run["finished_at"]]

        return wait_until(found, description=f"the order {key!r} has ended")[0]

    @contextmanager
    def workers_frozen(self) -> Iterator[None]:
        """Stop all workers for the block, none of them in the middle of a write."""
        with self.system.db.write():
            frozen = [worker for worker in self.workers() if not worker.suspend()]
        try:
            yield
        finally:
            for worker in frozen:
                worker.resume()


@contextmanager
def house_in(directory: Path, *, database_url: str, log_style: str) -> Iterator[House]:
    """Start `up` and give its doors; it is stopped at the end of the block, and must leave no process behind."""
    data, temporary = directory / "data", directory / "tmp"
    data.mkdir(exist_ok=True)
    temporary.mkdir()
    settings = {
        "TEAM_SESSIONS_DATA_DIR": str(data),
        "TEAM_SESSIONS_TEAMS": "tests.threats.teams",
        "TEAM_SESSIONS_LOG_LEVEL": "DEBUG",
        "TEAM_SESSIONS_LOG_STYLE": log_style,
        "TEAM_SESSIONS_MODEL_RETRIES": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "TEAM_SESSIONS_MAX_INPUT_BYTES": str(MAX_INPUT),
        "TMPDIR": str(temporary),
    }
    port, flower_port = free_port(), free_port()
    with (
        collector() as traces,
        system(
            directory,
            database_url=database_url,
            redis_url="",
            settings=settings | {"TEAM_SESSIONS_OTLP_ENDPOINT": traces.url},
        ) as running,
    ):
        options = ["--port", str(port), "--flower-port", str(flower_port), "--workers", "1", "--concurrency", "20"]
        process = running.start("up", [*PROGRAM, "up", *options], environment=running.environment)
        wait_until(lambda: "Ready." in running.log("up"), description="up is ready")
        above = psutil.Process(process.pid)
        children = above.children(recursive=True)
        broker = next(c for child in children if (c := child.environ().get("TEAM_SESSIONS_REDIS_URL")))
        user, _, password = (data / "flower-login").read_text().strip().partition(":")
        # A connection for each request: one that the server closes as idle just then is no answer.
        key = {"Authorization": f"Bearer {(data / 'api-key').read_text().strip()}", "Connection": "close"}
        with (
            httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=key, timeout=70) as http,
            httpx2.Client(base_url=f"http://127.0.0.1:{flower_port}", auth=(user, password), timeout=120) as flower,
            Celery("shop", broker=broker, set_as_current=False) as shop,
        ):
            wait_until(lambda: _answers(flower), description="Flower answers")
            yield House(running, above, data, temporary, port, broker, http, flower, shop, traces)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        assert not [child for child in children if child.is_running()], "up has left processes behind"


def _answers(flower: httpx2.Client) -> bool:
    try:
        return flower.get("/api/workers").status_code == 200
    except httpx2.TransportError:
        return False


def broker_of(house: House) -> "Redis[Any]":
    """Return a client of the broker."""
    return Redis.from_url(house.broker)
