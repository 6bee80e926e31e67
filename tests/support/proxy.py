"""A proxy on a socket that breaks connections after a number of bytes from the server."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.listener import Listener


class Proxy(Listener):
    """A proxy for the server at *url*. Connection n breaks after cuts[n] bytes from the server (None: never).

    What was sent to the server by then has arrived. After the last of *cuts*, no connection breaks.
    """

    def __init__(self, url: str, cuts: Iterable[int | None]) -> None:
        self._server = urlsplit(url)
        self._cuts = iter(cuts)
        self.broken = 0
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """Connect to the server of the URL."""
        assert self._server.hostname is not None
        return socket.create_connection((self._server.hostname, self._server.port or 80))

    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Forward, until the next of the cuts."""
        cut = next(self._cuts, None)
        threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
        threading.Thread(target=self._return, args=(server, client, cut), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _return(self, server: socket.socket, client: socket.socket, left: int | None) -> None:
        with server, client, suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data[:left])
                if left is not None:
                    left -= len(data)
                    if left < 0:
                        self.broken += 1
                        break
            client.shutdown(socket.SHUT_RDWR)  # wakes the other thread too; to close a socket under it would not


@contextmanager
def proxy(url: str, cuts: Iterable[int | None]) -> Iterator[Proxy]:
    """A `Proxy` for the block."""
    running = Proxy(url, cuts)
    try:
        yield running
    finally:
        running.close()
