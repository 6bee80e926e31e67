"""The metrics port of a worker serves scrapers, whatever other clients do to it."""

import socket
from collections.abc import Callable
from contextlib import ExitStack

import httpx2
import pytest

from tests.support.system import wait_until
from worker.process import metrics_server
from worker.process.metrics_server import AT_ONCE, MetricsServer
from worker.queue.embedded import free_port
from worker.store import Database, api_keys


def test_a_request_in_drops_holds_no_slot_for_ever(
    new_sqlite: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every slot is taken by a client that sends a byte now and then; a second later, a scraper is served."""
    monkeypatch.setattr(metrics_server, "SERVED_S", 1.0)
    db, port = Database(new_sqlite()), free_port()
    with db.write() as tx:
        key = api_keys.create(tx, name="scraper")
    server = MetricsServer(db, host="127.0.0.1", port=port)
    server.start()
    try:
        wait_until(lambda: scrape(port, key) == 200, description="the port answers")
        with ExitStack() as stack:
            slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(AT_ONCE)]
            for connection in slow:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nX-A: ")

            wait_until(lambda: sum(map(drop, slow)) == AT_ONCE, description="all are closed")
            assert scrape(port, key) == 200
    finally:
        server.close()
        db.close()


def scrape(port: int, key: str) -> int:
    """Return the status of a scrape; 0: it was not served."""
    try:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.get(f"http://127.0.0.1:{port}/metrics", headers=headers, timeout=60).status_code
    except httpx2.TransportError:
        return 0


def drop(connection: socket.socket) -> bool:
    """Send one more byte; tell whether the other side has closed the connection."""
    try:
        connection.sendall(b"a")
    except OSError:
        return True
    return False
