"""Connections that do nothing: half requests, idle ones, and more of them than the process may have."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from tests.support.system import ROOT, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port

FILES = 256
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
# The API with short times: what is tested is that they are kept.
QUICK = """
from api_stub import connections
from worker.cli.main import main
connections.REQUEST_S, connections.READER_S = 2.0, 2.0
main()
"""


@pytest.fixture
def running(tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer) -> Iterator[System]:
    """An API process that may open few files, and waits two seconds for a request."""
    with system(tmp_path, database_url=new_sqlite(), redis_url=valkey.url) as made:
        port = free_port()
        command = ["prlimit", f"--nofile={FILES}:{FILES}", sys.executable, "-c", QUICK, "api", "--port", str(port)]
        made.api = made.start("api", command, environment=made.environment, cwd=ROOT)
        made.url = f"http://127.0.0.1:{port}"
        made.wait_for_log("api", "api ready")
        yield made


def connect(running: System, sent: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", int(running.url.rsplit(":", 1)[1])), timeout=60)
    made.sendall(sent)
    return made


def answers_probe(connection: socket.socket) -> bool:
    """Send a probe, and read its answer."""
    connection.sendall(PROBE)
    answer = b""
    while b'{"status":"ok"}' not in answer and (received := connection.recv(65536)):
        answer += received
    return answer.startswith(b"HTTP/1.1 200")


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side closes it."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_a_request_that_does_not_become_whole_ends_its_connection(running: System) -> None:
    """Without a byte, in its head, and in its body. Meanwhile others are served, and an idle one is kept for longer."""
    parts = (b"", b"GET /v1/teams HTTP/1.1\r\nHost: x\r\nX-A: ", HALF, HALF + b'\r\n{"team":')
    with ExitStack() as stack:
        idle = stack.enter_context(connect(running, b""))
        assert answers_probe(idle)
        halves = [stack.enter_context(connect(running, part)) for part in parts]

        assert httpx2.get(f"{running.url}/healthz", timeout=60).status_code == 200
        assert all(is_closed(half) for half in halves)
        assert answers_probe(idle)
    assert "ERROR" not in running.log("api")


def test_more_connections_than_files_take_no_place_from_a_request(running: System) -> None:
    """Idle and half ones are closed for others, the process says so once, and no handle stays open."""
    files = Path(f"/proc/{running.api.pid}/fd")
    before = len(list(files.iterdir()))
    with ExitStack() as stack:
        for n in range(3 * FILES):
            stack.enter_context(connect(running, PROBE if n % 2 else b"GET /v1/teams HT"))
            if n % 100 == 99:
                assert httpx2.get(f"{running.url}/healthz", timeout=60).status_code == 200
        headers = {"Authorization": f"Bearer {running.key}"}
        assert httpx2.get(f"{running.url}/v1/teams", headers=headers, timeout=60).status_code == 200
        assert running.log("api").count("connections closed for others") == 1
    # Threads may have opened the database.
    wait_until(lambda: len(list(files.iterdir())) <= before + 20, description="the connections are closed")
