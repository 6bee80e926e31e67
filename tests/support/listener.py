"""A listener on loopback that forwards each connection to a server, in the way of its class."""

import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress


class Listener(ABC):
    """Accepts connections on `port` until `close`, connects each to the server, and serves it on threads."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @abstractmethod
    def connect(self) -> socket.socket:
        """Connect to the server."""

    @abstractmethod
    def serve(self, client: socket.socket, server: socket.socket) -> None:
        """Start to forward in both directions."""

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = self.connect()
                except OSError:
                    client.close()
                    continue
                self.serve(client, server)
