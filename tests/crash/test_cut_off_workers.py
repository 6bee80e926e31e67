"""A worker that cannot reach its database leaves all deliveries to the others."""

import socket
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from redis import Redis

from tests.support import look
from tests.support.listener import Listener
from tests.support.postgres import PostgresServer
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes


class Wire(Listener):
    """A proxy for Postgres that can be cut: then it forwards nothing, or refuses and ends all connections."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._passes = threading.Event()
        self._passes.set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._refuses = False
        super().__init__()

    def connect(self) -> socket.socket:
        """Connect to the server's socket file."""
        if self._refuses:
            raise ConnectionRefusedError
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._server))
        return server

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward in both directions."""
        self._sockets += [client, server]
        for source, target in ((client, server), (server, client)):
            self._threads.append(threading.Thread(target=self._forward, args=(source, target), daemon=True))
            self._threads[-1].start()

    def hold(self) -> None:
        """Forward nothing, and keep the connections."""
        self._passes.clear()

    def refuse(self) -> None:
        """End the connections, and refuse new ones."""
        self._refuses = True
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Forward all again."""
        self._refuses = False
        self._passes.set()

    def close(self) -> None:
        """End all connections."""
        super().close()
        self._passes.set()
        self.refuse()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._passes.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.mark.extended
@pytest.mark.parametrize("how", ["refuse", "hold"])
def test_a_worker_without_its_database_takes_no_deliveries(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer, how: str
) -> None:
    """Others execute all runs; `why` says so if there is no other; it takes them again when the database answers."""
    url = postgres.new_database()
    with (
        system(tmp_path, database_url=url, redis_url=valkey.url) as running,
        closing(Wire(postgres.socket)) as wire,
        Redis.from_url(valkey.url) as redis,
    ):
        name = url.split("@/", 1)[1].split("?", 1)[0]
        through = f"postgresql://postgres@127.0.0.1:{wire.port}/{name}"
        other = running.start_worker()
        cut_off = running.start_worker(TEAM_SESSIONS_DATABASE_URL=through)
        client = running.start_api()
        wait_until(lambda: redis.info("clients")["blocked_clients"] == 2, description="both request messages")

        getattr(wire, how)()
        wait_until(lambda: asking(redis) == 1, description="the worker that is cut off requests none")
        ids = [client.enqueue("plain", "hello", user_id="u")["id"] for _ in range(8)]
        done = [client.run(run_id, wait_s=60) for run_id in ids]
        other.terminate()
        other.wait(timeout=120)
        last = client.enqueue("plain", "hello", user_id="u")["id"]
        reason = wait_until(
            lambda: (found := client.why(last)["reason"]) not in ("in_queue", "not_claimed") and found,
            description="why says that the database is not reached",
        )
        wire.restore()
        end = client.run(last, wait_s=60)

        assert {(run["status"], run["attempt"]) for run in done} == {("completed", 1)}
        assert reason in ("database_not_reached", "team_not_served")
        assert (end["status"], look.row(running.db, last).losses) == ("completed", 0)
        assert cut_off.poll() is None
    postgres.drop(url)


def asking(redis: "Redis[bytes]") -> int:
    """Return how many workers request messages, over a second and a half: each asks again every second."""
    found = 0
    for _ in range(30):
        found = max(found, int(redis.info("clients")["blocked_clients"]))
        time.sleep(0.05)
    return found
