"""Serves the application on a socket. A requested stop is no error: the process exits with 0."""

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from api_stub.app import make_app
from worker.settings import Settings


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve the application until SIGTERM or SIGINT."""
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    _Server(config, before_shutdown=lambda: app.state.service.follower.leave()).run()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, before_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_shutdown = before_shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. uvicorn's own handler raises the signal again afterwards, so the process would not exit with 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close streams and waiting requests first: they would delay the shutdown until their runs end."""
        self._before_shutdown()
        await super().shutdown(sockets)
