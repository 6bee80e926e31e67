"""The product as processes that faults break, and a supervisor that restarts the dead ones.

Three workers for `resumed,runs`, one for `enqueue,batch,summaries`, an API, a model server, and a broker and a database
for them alone. All files are in one directory; all processes end with the block.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx2

from api_stub.client import Client, Retries
from ops.chaos import audit
from tests.support.commit_proxy import CommitProxy
from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM, System, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port
from worker.store import Database, migrate

LEASE_S = 5.0
WORKERS = ("runs-1", "runs-2", "runs-3")
SETTINGS = {
    "TEAM_SESSIONS_TEAMS": "ops.chaos.teams",
    "TEAM_SESSIONS_LEASE_SECONDS": f"{LEASE_S:g}",
    "TEAM_SESSIONS_HANDOVER_SECONDS": "1",
    "TEAM_SESSIONS_MODEL_SILENCE_SECONDS": "5",
    "TEAM_SESSIONS_SUMMARY_VERSIONS": "100000",
}


@dataclass(slots=True)
class Role:
    """One process of the product across its restarts. `extra` is added to the environment of the next start."""

    name: str
    command: list[str]
    extra: dict[str, str] = field(default_factory=dict)
    number: int = 0
    process: "Popen[bytes] | None" = None


class Fleet:
    """The processes and stores that faults break. Start it with `fleet`."""

    def __init__(self, running: System, valkey: ValkeyServer, postgres: PostgresServer | None) -> None:
        self.system = running
        self.db = running.db
        self.valkey = valkey
        self.postgres = postgres
        self.proxy: CommitProxy | None = None  # between the processes and Postgres, if they were given one
        self.directory = running.directory
        self.store = self.directory / "store"  # where the database has its files
        self.marks = self.directory / "marks"  # of the model server, for every call
        self.points = self.directory / "points"
        self.points.mkdir()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        worker = [*PROGRAM, "worker", "--concurrency", "20", "--queues"]
        runs = [Role(name, [*worker, "resumed,runs"]) for name in WORKERS]
        summaries = Role("summaries", [*worker, "enqueue,batch,summaries"])
        api = Role("api", [*PROGRAM, "api", "--port", str(port)])
        self.roles = {role.name: role for role in (*runs, summaries, api)}
        self.hits: list[dict[str, Any]] = []  # {at, pid, fault} of each process that was killed or stopped from outside
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every process, and wait until each is ready."""
        for role in self.roles.values():
            self._start(role)
        self._supervisor.start()
        wait_until(self._all_ready, description="workers and API are ready")

    def close(self) -> None:
        """Restart no process from now on."""
        self._ending.set()
        self._supervisor.join()

    def client(self, *, tries: int = 12) -> Client:
        """Return a client that retries while the API restarts."""
        return Client(self.url, self.system.key, retries=Retries(count=tries))

    def ready_workers(self) -> list[Role]:
        """Return the workers for runs that are alive and ready."""
        return [role for name in WORKERS if self._is_ready(role := self.roles[name])]

    def signal(self, role: Role, number: signal.Signals, fault: str) -> int:
        """Send a signal to a process, note it, and return its pid."""
        assert role.process is not None
        self.hits.append({"at": time.time(), "pid": role.process.pid, "fault": fault})
        role.process.send_signal(number)
        return role.process.pid

    def all_hits(self) -> list[dict[str, Any]]:
        """Return all processes that were killed or stopped, from outside or at a point."""
        return sorted([*self.hits, *self.lines("hits.jsonl")], key=lambda hit: float(hit["at"]))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the objects in a file of JSON lines of the directory."""
        path = self.directory / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _start(self, role: Role) -> None:
        role.number += 1
        environment = {**self.system.environment, **role.extra}
        role.extra = {}
        role.process = self.system.start(f"{role.name}.{role.number}", role.command, environment=environment)

    def _supervise(self) -> None:
        while not self._ending.wait(0.1):
            for role in self.roles.values():
                if role.process is not None and role.process.poll() is not None and not self._ending.is_set():
                    self._start(role)

    def _is_ready(self, role: Role) -> bool:
        if role.process is None or role.process.poll() is not None:
            return False
        return "worker ready" in self.system.log(f"{role.name}.{role.number}")

    def _all_ready(self) -> bool:
        workers = [self.roles[name] for name in (*WORKERS, "summaries")]
        with suppress(httpx2.TransportError):
            return all(map(self._is_ready, workers)) and httpx2.get(f"{self.url}/readyz").status_code == 200
        return False


@dataclass(frozen=True, slots=True)
class Needs:
    """What a fault needs of the stores that it breaks.

    `port`: Postgres listens on one, so it can refuse connections as over a network. `proxy`: the processes reach it
    through a proxy. `disk_mb`: the files of the database have a disk of this size for them alone.
    """

    port: bool = False
    proxy: bool = False
    disk_mb: int | None = None


class NotPossible(Exception):
    """This machine does not allow it."""


@contextmanager
def fleet(
    kind: str, *, broken: str | None = None, settings: Mapping[str, str] = SETTINGS, needs: Needs = Needs()
) -> Iterator[Fleet]:
    """A `Fleet` on a new database of *kind*; all its workers run the *broken* build, if one is named.

    Raises:
        NotPossible: a need cannot be met.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-chaos-")))
        directory.chmod(0o755)  # Postgres runs as another user
        store = directory / "store"
        store.mkdir()
        if needs.disk_mb is not None:
            stack.enter_context(small_disk(store, needs.disk_mb))
        postgres = None
        if kind == "postgres":
            port = free_port() if needs.port else None
            postgres = stack.enter_context(closing(PostgresServer(durable=True, port=port, root=store)))
        url = postgres.new_database() if postgres else f"sqlite:///{store / 'team-sessions.db'}"
        with closing(Database(url)) as db:
            migrate.upgrade(db)
            audit.create(db)
        own = {"CHAOS_BREAK": broken} if broken else {}
        proxy = None
        if needs.proxy and postgres is not None:
            proxy = stack.enter_context(closing(CommitProxy(postgres.socket)))
            name = url.split("?")[0].rsplit("/", 1)[1]
            own["TEAM_SESSIONS_DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
        valkey = stack.enter_context(closing(ValkeyServer()))
        options = ["--also", str(directory / "marks")]
        running = System(
            directory, database_url=url, redis_url=valkey.url, settings={**settings, **own}, model_options=options
        )
        stack.enter_context(closing(running))
        made = Fleet(running, valkey, postgres)
        made.proxy = proxy
        stack.enter_context(closing(made))
        made.start()
        yield made


@contextmanager
def small_disk(directory: Path, size_mb: int) -> Iterator[None]:
    """Let *directory* be a disk of its own inside the block.

    Raises:
        NotPossible: this user may not mount a file system.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotPossible("it needs the right to mount a file system") from error
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def thaw(pid: int) -> None:
    """Continue a stopped process, if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
