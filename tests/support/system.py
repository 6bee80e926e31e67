"""The whole product as real processes: model server, workers, API; on a given database and broker.

For tests that break processes, for those of the HTTP API, and for the benches.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from api_stub.client import Client
from worker.queue.embedded import free_port
from worker.store import Database, api_keys

ROOT = Path(__file__).parent.parent.parent
PROGRAM = [sys.executable, str(Path(sys.executable).with_name("team-sessions"))]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, description: str, timeout_s: float = 120.0) -> T:
    """Return the first true value of *condition*; fail with *description* when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s:g} s: {description}")


class System:
    """Processes that this object started, and ends, by their pid."""

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str,
        redis_url: str,
        settings: Mapping[str, str] | None = None,
        model_options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.database_url = database_url
        self.journal_file = directory / "model-journal.jsonl"
        self._processes: list[subprocess.Popen[bytes]] = []
        model_port = free_port()
        command = [sys.executable, str(ROOT / "ops/stub_model.py"), "--port", str(model_port)]
        self._model_command = [*command, "--journal", str(self.journal_file), *model_options]
        self.start_model()
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("TEAM_SESSIONS_", "OPENAI_", "OTEL_", "PYTHON"))
            },
            "TEAM_SESSIONS_DATA_DIR": str(directory),
            "TEAM_SESSIONS_DATABASE_URL": database_url,
            "TEAM_SESSIONS_REDIS_URL": redis_url,
            "TEAM_SESSIONS_TEAMS": "tests.support.teams",
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1",
            "PYTHONPATH": str(ROOT),
            **(settings or {}),
        }
        self.workers: list[subprocess.Popen[bytes]] = []
        self.db = Database(database_url)
        with self.db.write() as tx:
            self.key = api_keys.create(tx, name="test")
        self.url = ""
        self._clients: list[Client] = []

    def start(
        self, name: str, command: list[str], *, environment: Mapping[str, str], cwd: Path = ROOT
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to `<name>.log`."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=dict(environment), cwd=cwd, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def start_model(self) -> None:
        """Start the model server, again on its port after it ended."""
        self.model = self.start("model", self._model_command, environment=os.environ)

    def start_worker(
        self, *, concurrency: int = 20, queues: str = "resumed,runs", **settings: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it is ready; *settings* are added to its environment."""
        return self.start_workers(1, concurrency=concurrency, queues=queues, code=ROOT, **settings)[0]

    def start_workers(
        self, count: int, *, queues: str = "resumed,runs", concurrency: int = 20, code: Path = ROOT, **settings: str
    ) -> list[subprocess.Popen[bytes]]:
        """Start several workers at once and wait until all are ready; *code*: the directory of their version."""
        command = [*PROGRAM, "worker", "--queues", queues, "--concurrency", str(concurrency)]
        names = [f"worker-{len(self.workers) + n}" for n in range(1, count + 1)]
        environment = {**self.environment, "PYTHONPATH": str(code), **settings}
        started = [self.start(name, command, environment=environment, cwd=code) for name in names]
        self.workers += started
        for name in names:
            self.wait_for_log(name, "worker ready")
        return started

    def start_api(self, *, code: Path = ROOT) -> Client:
        """Start an API process and return a client with a service key; *code*: the directory of its version."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**self.environment, "PYTHONPATH": str(code)}
        self.api = self.start("api", [*PROGRAM, "api", "--port", str(port)], environment=environment, cwd=code)

        def answers() -> bool:
            try:
                return httpx2.get(f"{url}/healthz", timeout=60).status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers, description="the API answers", timeout_s=120)
        self.url = url  # only now: until here a deploy calls the old API
        client = Client(self.url, self.key)
        self._clients.append(client)
        return client

    def start_up(self, *options: str, program: Sequence[str] = PROGRAM) -> tuple[subprocess.Popen[bytes], Client]:
        """Start `team-sessions up` and wait until it is ready; return it, and a client with its key."""
        port = free_port()
        ports = ["--port", str(port), "--flower-port", str(free_port())]
        process = self.start("up", [*program, "up", *ports, *options], environment=self.environment)
        self.wait_for_log("up", "Ready.")
        client = Client(f"http://127.0.0.1:{port}", (self.directory / "api-key").read_text().strip())
        self._clients.append(client)
        return process, client

    def freeze(self, pid: int) -> None:
        """Stop a process outside a write transaction: inside one it would block all other writers on SQLite."""
        with self.db.write():
            os.kill(pid, signal.SIGSTOP)

    def log(self, name: str) -> str:
        """Return what a process has printed."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def wait_for_log(self, name: str, text: str, *, timeout_s: float = 120) -> None:
        """Wait until a process has printed *text*."""
        wait_until(lambda: text in self.log(name), description=f"{name} prints {text!r}", timeout_s=timeout_s)

    def journal(self) -> list[dict[str, Any]]:
        """Return the model server's journal: its requests and its answers."""
        if not self.journal_file.exists():
            return []
        return [json.loads(line) for line in self.journal_file.read_text().splitlines()]

    def close(self) -> None:
        """End every process that was started here."""
        for client in self._clients:
            client.close()
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        self.db.close()


@contextmanager
def system(
    directory: Path,
    *,
    database_url: str,
    redis_url: str,
    settings: Mapping[str, str] | None = None,
    model_options: Sequence[str] = (),
) -> Iterator[System]:
    """A `System` that is ended at the end of the block."""
    running = System(
        directory, database_url=database_url, redis_url=redis_url, settings=settings, model_options=model_options
    )
    try:
        yield running
    finally:
        running.close()
