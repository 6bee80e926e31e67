"""Answer `GET /metrics` of a worker, to the keys that may read the API's metrics.

It listens on daemon threads, so it delays neither a run nor the end of the process. A port that is in use, as by the
worker that this one replaces, is tried again until it is free.
"""

import http.server
import socket
import socketserver
import threading
from contextlib import suppress
from typing import Any

from worker import clock
from worker.errors import KeyMissing, TeamSessionsError
from worker.observe import logs, metrics
from worker.process.key_cache import KeyCache
from worker.process.metrics_access import MetricsAccess
from worker.process.semaphore import Semaphore
from worker.store import Database

AT_ONCE = 8  # connections; further ones are closed immediately
CLIENT_TIMEOUT_S = 5.0  # a connection that sends nothing for that long is closed
SERVED_S = 15.0  # a connection is closed after that long, whatever it sends or reads
RETRY_S = 1.0
TICK_S = 0.5

log = logs.get(__name__)


class MetricsServer:
    """Listens from `start` to `close`, with its own connection to the database."""

    def __init__(self, db: Database, *, host: str, port: int) -> None:
        self._db = db.dedicated()
        self._address = (host, port)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="metrics", daemon=True)

    def start(self) -> None:
        """Listen, on a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._thread.join(timeout=2 * TICK_S)
        self._db.close()

    def _listen(self) -> None:
        logged = False
        while not self._closing.is_set():
            try:
                with _Server(self._address, MetricsAccess(KeyCache(self._db))) as server:
                    log.info("metrics are served", host=self._address[0], port=self._address[1])
                    while not self._closing.is_set():
                        server.handle_request()
                        server.close_overdue()
            except OSError as error:
                if not logged:
                    log.warning("metrics cannot be served yet; trying again", port=self._address[1], error=error)
                logged = True
                self._closing.wait(RETRY_S)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    timeout = TICK_S
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], metrics_access: MetricsAccess) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.metrics_access = metrics_access
        self._slots = Semaphore(AT_ONCE)
        self._since: dict[socket.socket, float] = {}  # when each open connection was accepted
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's lookup of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def verify_request(self, request: object, client_address: object) -> bool:
        return self._slots.acquire()

    def process_request_thread(self, request: Any, client_address: object) -> None:
        self._since[request] = clock.monotonic()
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._since[request]
            self._slots.release()

    def close_overdue(self) -> None:
        """End the connections that have been open for too long: a byte now and then would hold a slot for ever."""
        now = clock.monotonic()
        for request, since in list(self._since.items()):
            if now - since > SERVED_S:
                with suppress(OSError):  # it has just ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: the client has disconnected, and its address belongs in no log."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer with the metrics of this process."""
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"Not found. This server has only /metrics.\n")
            return
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not key:
                raise KeyMissing()
            self.server.metrics_access.check(key.strip())
        except TeamSessionsError as error:
            self._answer(error.status, error.message.encode() + b"\n")
            return
        self._answer(200, metrics.text(metrics.PROCESS), kind=metrics.CONTENT_TYPE)

    def _answer(self, status: int, body: bytes, *, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response_only(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: no log may hold what a client sends."""
