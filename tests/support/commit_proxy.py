"""A proxy in front of Postgres, on loopback, that loses answers, or forwards nothing for a while.

Of a COMMIT whose answer it loses, it ends the connection instead.

It reads the messages of the client: https://www.postgresql.org/docs/current/protocol-message-formats.html. What the
client has sent reaches the server, so a COMMIT whose answer is lost has happened.
"""

import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

from tests.support.listener import Listener

NO_TLS = (80877103, 80877104)  # requests for encryption, which come before the startup message


class CommitProxy(Listener):
    """Loses the answer of each COMMIT with *probability*. `lost` counts them.

    While `flows` is not set, it forwards nothing and breaks nothing: a black hole, also for new connections.
    """

    def __init__(self, server: Path, *, seed: int = 0) -> None:
        self.probability = 0.0
        self.lost = 0
        self.flows = threading.Event()
        self.flows.set()
        self._server = server
        self._chance = random.Random(seed)
        super().__init__()

    def connect(self) -> socket.socket:
        """Connect to the server's socket file."""
        self.flows.wait()
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._server))
        return server

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward, and lose some answers."""
        loses = threading.Event()
        threading.Thread(target=self._forward, args=(client, server, loses), daemon=True).start()
        threading.Thread(target=self._answer, args=(server, client, loses), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, loses: threading.Event) -> None:
        stream = client.makefile("rb")
        with suppress(OSError, struct.error):
            while True:  # the messages before the startup message, and itself, have no type
                header = stream.read(8)
                length, code = struct.unpack("!II", header)
                server.sendall(header + stream.read(length - 8))
                if code not in NO_TLS:
                    break
            while kind := stream.read(1):
                size = stream.read(4)
                body = stream.read(struct.unpack("!I", size)[0] - 4)
                if kind in b"QP" and b"COMMIT" in body[:40] and self._chance.random() < self.probability:
                    self.lost += 1
                    loses.set()
                self.flows.wait()
                server.sendall(kind + size + body)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket, loses: threading.Event) -> None:
        with server, client, suppress(OSError):
            while data := server.recv(65536):
                if loses.is_set():
                    break
                self.flows.wait()
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
