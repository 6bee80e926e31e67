"""An installation that is well, and a doctor who is asked about it."""

import ctypes
import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
from redis import Redis

from tests.support.system import PROGRAM, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.app import QUEUES
from worker.queue.embedded import free_port
from worker.store import teams

CHECKS = (
    *("settings", "teams", "data directory", "database", "writing", "broker"),
    *("workers", "runs", "summaries", "model", "api", "flower"),
)
MISSING_WORKERS = {"workers_missing", "worker_silent", "queue_not_consumed", "api_not_ready"}
RETRIES = 5
ANNOUNCE_S = 7.0  # workers announce themselves every 5 s
FLOWER_USER, FLOWER_PASSWORD = "flower", "a-login-of-this-test"
LOGIN = f"{FLOWER_USER}:{FLOWER_PASSWORD}"
INSPECTED = {"stats", "active_queues", "registered", "conf"}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor said, by the codes of the findings."""

    code: int
    lines: list[dict[str, Any]]

    @property
    def ill(self) -> dict[str, str]:
        """How bad each finding is that is not well."""
        return {line["code"]: line["level"] for line in self.lines if line["level"] in ("failed", "warning")}

    def told(self, code: str) -> tuple[str, str]:
        """What is wrong, and what to do about it."""
        found = next(line for line in self.lines if line["code"] == code)
        return found["detail"], found["advice"]


class House:
    """A system with everything that `up` starts, each on its own."""

    def __init__(self, running: System, valkey: ValkeyServer) -> None:
        self.system = running
        self.valkey = valkey
        self.directory = running.directory
        self.is_sqlite = running.db.is_sqlite
        self.background = running.start_worker(queues="enqueue,batch,summaries")
        running.start_worker()
        running.start_api()
        self.write("api-url", running.url)
        self.write("api-key", running.key)
        self.write("flower-login", LOGIN)
        self.flower_port = free_port()
        self.start_flower()

    def start_flower(self) -> None:
        """Start Flower, and wait until it has asked the workers about themselves.

        A worker that answers while the broker takes no writes ends.
        """
        login = ["--login-file", str(self.directory / "flower-login")]
        command = [*PROGRAM, "flower", "--port", str(self.flower_port), *login]
        self.system.start("flower", command, environment=self.system.environment)
        url = f"http://127.0.0.1:{self.flower_port}"
        self.write("flower-url", url)
        wait_until(lambda: answers(url), description="Flower answers")
        with httpx2.Client(base_url=url, auth=(FLOWER_USER, FLOWER_PASSWORD)) as flower:
            wait_until(lambda: knows_both_workers(flower), description="Flower knows the workers")

    def write(self, name: str, text: str) -> Path:
        """Write a file of the data directory, as `up` does."""
        file = self.directory / name
        file.touch(mode=0o600)
        file.write_text(text + "\n")
        return file

    def ask(
        self, *options: str, bounds: Callable[[], None] | None = None, unset: tuple[str, ...] = (), **settings: str
    ) -> Diagnosis:
        """Run the doctor, with *settings* of another terminal; *bounds* are set on its process.

        Every check reports, whatever is wrong; there is no traceback, and no secret in the output. A worker that a busy
        machine stops for 15 s counts as gone until it announces itself: then the doctor is run again.
        """
        for _ in range(RETRIES):
            diagnosis = self._ask_once(*options, bounds=bounds, unset=unset, **settings)
            if MISSING_WORKERS.isdisjoint(diagnosis.ill) or not self._has_live_workers():
                break
        return diagnosis

    def _has_live_workers(self) -> bool:
        """Wait a moment for the announcement of both workers."""
        deadline = monotonic() + ANNOUNCE_S
        while monotonic() < deadline:
            with self.system.db.read() as tx:
                if {queue for team in teams.live(tx) for queue in team.queues} == set(QUEUES):
                    return True
            sleep(0.2)
        return False

    def _ask_once(
        self, *options: str, bounds: Callable[[], None] | None = None, unset: tuple[str, ...] = (), **settings: str
    ) -> Diagnosis:
        patience = () if "--within" in options else ("--within", "60")  # of a machine that does other things too
        done = self.run("--json", *patience, *options, bounds=bounds, unset=unset, **settings)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        secrets = [self.valkey.url.split("@")[0].rsplit(":", 1)[1], self.system.key, LOGIN.split(":")[1], "hunter2"]
        assert [secret for secret in secrets if secret in done.stdout + done.stderr] == []
        lines = json.loads(done.stdout)
        assert tuple(dict.fromkeys(line["check"] for line in lines)) == CHECKS
        assert all(line["detail"] for line in lines)
        assert all(line["advice"] for line in lines if line["level"] in ("failed", "warning"))
        return Diagnosis(done.returncode, lines)

    def run(
        self, *options: str, bounds: Callable[[], None] | None = None, unset: tuple[str, ...] = (), **settings: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `team-sessions doctor` and return what it came to."""
        environment = {k: v for k, v in {**self.system.environment, **settings}.items() if k not in unset}
        return subprocess.run(
            [*PROGRAM, "doctor", *options],
            env=environment,
            cwd=self.directory,
            preexec_fn=bounds,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@contextmanager
def house(directory: Path, *, database_url: str, valkey: ValkeyServer) -> Iterator[House]:
    """A `House` that is ended at the end of the block."""
    with system(directory, database_url=database_url, redis_url=valkey.url) as running:
        yield House(running, valkey)


@contextmanager
def configured(house: House, **options: str) -> Iterator["Redis[Any]"]:
    """Set options of the broker for the block."""
    with Redis.from_url(house.valkey.url, decode_responses=True) as redis:
        before = {name: redis.config_get(name)[name] for name in options}
        redis.config_set(*[part for pair in options.items() for part in pair])
        try:
            yield redis
        finally:
            redis.config_set(*[part for pair in before.items() for part in pair])


def answers(url: str) -> bool:
    """Tell whether something answers HTTP."""
    try:
        return httpx2.get(url, timeout=60).status_code > 0
    except httpx2.TransportError:
        return False


def knows_both_workers(flower: httpx2.Client) -> bool:
    """Tell whether both workers have answered all that Flower asks at its start."""
    workers = flower.get("/api/workers").json().values()
    return len([worker for worker in workers if worker.keys() >= INSPECTED]) == 2


@contextmanager
def answering(statuses: Mapping[str, int]) -> Iterator[str]:
    """Serve HTTP on loopback: to each path its status, 404 to all others; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b'{"error": {"message": "no", "code": "none"}}'
            self.send_response(statuses.get(self.path, 404))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's spelling

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def like_any_user() -> None:
    """Have the modes of files hold for root too, in the process that is about to start."""
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def with_no_room() -> None:
    """Let the process that is about to start write no file: as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
