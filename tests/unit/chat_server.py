"""A Chat Completions server that follows a script, byte by byte, and tells what its client does."""

import json
import queue
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from worker.domain import ChatMessage, ChatRequest

WAIT_S = 120.0  # far above what any of these needs; nothing is asserted about time
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
KEY = "sk-test-0123456789"
HELLO = ChatRequest((ChatMessage("user", "hello"),))


class Endless(bytes):
    """In a script: these bytes again and again, until the client has closed the connection."""


Step = bytes | Callable[[], object] | None
UNTIL_LEFT = None  # in a script: say nothing until the client has closed the connection


def sse(data: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of a stream."""
    return sse({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def failure(status: str, body: object, *headers: str) -> bytes:
    """A whole response that is an error."""
    said = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(said)}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + said


class Server:
    """A socket that follows a script for each request: bytes are sent, functions called, `UNTIL_LEFT` waits."""

    def __init__(self, *script: Step, turns: Sequence[Sequence[Step]] = ()) -> None:
        self.asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()  # the body of each request
        self.heads: queue.SimpleQueue[str] = queue.SimpleQueue()  # its request line and headers
        self.left = threading.Event()
        outer = self
        left = iter(turns)  # the scripts of the first requests, before *script*

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                length, head = 0, b""
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    head += line
                outer.heads.put(head.decode())
                outer.asked.put(json.loads(self.rfile.read(length)))
                for step in next(left, script):
                    if isinstance(step, Endless):
                        with suppress(ConnectionError):
                            while True:
                                self.wfile.write(step)
                        outer.left.set()
                    elif isinstance(step, bytes):
                        with suppress(ConnectionError):
                            self.wfile.write(step)
                    elif step is not UNTIL_LEFT:
                        step()
                    else:
                        with suppress(ConnectionError):
                            self.rfile.read(1)
                        outer.left.set()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.request_queue_size = 100
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(*script: Step, turns: Sequence[Sequence[Step]] = ()) -> Iterator[Server]:
    """A `Server` for the block. *turns*: the scripts of its first requests."""
    server = Server(*script, turns=turns)
    try:
        yield server
    finally:
        server.close()
