"""A server on a socket that answers as a test says, byte by byte, and keeps what it was asked.

Answers are bytes, so that a test can cut them anywhere. `RESET` among them ends the connection with a reset. After one
request the connection is closed, unless the answer is `kept`.
"""

import itertools
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

RESET = None
KEEP = b"Connection: keep-alive"
Answering = Callable[["Asked"], Iterable[bytes | None]]


@dataclass(frozen=True)
class Asked:
    """One request, as it came, and the number of its connection; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any
    connection: int


def answer(status: int, body: object = None, **headers: str) -> list[bytes]:
    """Return a whole answer; a body that is no text is spelled as JSON."""
    said = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(said)}\r\nConnection: close\r\n{more}\r\n"
    return [head.encode() + said]


def kept(status: int, body: object = None) -> list[bytes]:
    """Return a whole answer, after which the connection is kept for the next request."""
    return [piece.replace(b"Connection: close", KEEP) for piece in answer(status, body)]


def problem(status: int, code: str, **headers: str) -> list[bytes]:
    """Return an error as the API spells it."""
    return answer(status, {"code": code, "detail": f"It is {code}.", "retry": False}, **headers)


def flowing(media_type: str, body: bytes, *, cut: int | None = None) -> list[bytes]:
    """Return an answer without a length: whole, or broken off behind *cut* bytes of its body."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    said = body[:cut]
    chunk = f"{len(said):x}\r\n".encode() + said + b"\r\n" if said else b""
    return [head.encode(), chunk, b"0\r\n\r\n" if cut is None else b""]


def in_turn(*answers: list[bytes] | list[bytes | None]) -> Answering:
    """Give these answers, one after the other."""
    left = iter(answers)
    return lambda _asked: next(left)


class Server:
    """Answers each request with what *answering* returns for it. `left`: a client has closed before the end."""

    def __init__(self, answering: Answering) -> None:
        self.asked: list[Asked] = []
        self.left = threading.Event()
        self._numbers = itertools.count(1)
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                number = next(outer._numbers)
                while (asked := self._read(number)) and self._answer(asked):
                    pass

            def _answer(self, asked: Asked) -> bool:
                """Answer a request, and return whether the connection is kept."""
                outer.asked.append(asked)
                keep = False
                for piece in answering(asked):
                    if piece is RESET:
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        self.connection.close()
                        return False
                    keep |= KEEP in piece
                    try:
                        self.wfile.write(piece)
                    except ConnectionError:
                        outer.left.set()
                        return False
                return keep

            def _read(self, number: int) -> Asked | None:
                line = self.rfile.readline().decode()
                if not line:
                    return None
                method, target, _ = line.split(" ")
                headers: dict[str, str] = {}
                while line := self.rfile.readline().decode("latin-1").strip():
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                body = self.rfile.read(int(headers.get("content-length", "0")))
                return Asked(method, target, headers, json.loads(body) if body else None, number)

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()

        class TcpServer(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 300

        self._server = TcpServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(answering: Answering) -> Iterator[Server]:
    """A `Server` for the block."""
    server = Server(answering)
    try:
        yield server
    finally:
        server.close()
