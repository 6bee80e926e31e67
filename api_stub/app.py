"""The FastAPI application, and its server on a socket."""

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from api_stub import dependencies, errors, middleware, schemas
from api_stub.connections import KEEP_ALIVE_S, Connections
from api_stub.limits import limits_of, raise_file_limit
from api_stub.memory import Memory
from api_stub.routes import batches, health, pending, runs, sessions, teams, users
from api_stub.service import Service
from api_stub.threads import AT_ONCE
from worker.observe import logs, metrics, tracing
from worker.settings import Settings

log = logs.get(__name__)

BODY_FACTOR = 6  # JSON can encode one byte of input as \uXXXX
BODY_REST = 262_144  # bytes for the rest of a body
# FastAPI's own traces contain paths and queries, with ids of users, and its logs contain messages of exceptions.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def make_app(settings: Settings) -> FastAPI:
    """Return the application for *settings*; it opens its connections when it starts, and closes them when it ends."""
    tracing.configure(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = service = Service(settings, limits_of(settings))
        metrics.preset()
        # What is there at the start stays. A full collection would stop all threads for 50 ms to find that out.
        gc.collect()
        gc.freeze()
        connecting = asyncio.create_task(asyncio.to_thread(service.db.connect_ahead, AT_ONCE))
        yield
        await connecting
        await service.close()
        tracing.flush()

    app = _App(
        title="Team Sessions",
        version="1",
        summary="Durable, queue-backed sessions with teams of LLM agents.",
        lifespan=lifespan,
        openapi_url=None,  # served below, and only with a key
        telemetry=_NO_TELEMETRY,
    )
    for module in (runs, pending, sessions, batches, users, teams, health):
        app.include_router(module.router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(_principal: dependencies.AnyScope) -> dict[str, Any]:
        return app.openapi()

    errors.install(app)
    app.state.memory = memory = Memory()
    body_limit = settings.max_input_bytes * BODY_FACTOR + BODY_REST
    app.add_middleware(middleware.BodyLimitMiddleware, limit=body_limit, memory=memory)
    app.add_middleware(middleware.ObservabilityMiddleware)
    app.add_middleware(middleware.PathSegmentsMiddleware)
    return app


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve the application until SIGTERM or SIGINT. A requested stop is no error: the process exits with 0."""
    raise_file_limit()
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connections(limit=limits_of(settings).connections).make,  # type: ignore[arg-type]  # it is only called
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        # Otherwise from WEB_CONCURRENCY and FORWARDED_ALLOW_IPS, which are often another server's.
        workers=1,
        forwarded_allow_ips=["127.0.0.1", "::1"],
        ws="none",
    )
    _Server(config).run()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the description with Problem, which FastAPI leaves out: it only knows bodies of application/json."""
        description = super().openapi()
        description["components"]["schemas"][schemas.Problem.__name__] = schemas.Problem.model_json_schema()
        return description


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. uvicorn's own handler raises the signal again afterwards, so the process would not exit with 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and log the address."""
        await super().startup(sockets)
        if self.started:
            log.info("api ready", url=_url(self.config.host, self.config.port))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close streams and waiting requests first: they would delay the shutdown until their runs end."""
        assert isinstance(self.config.app, FastAPI)
        self.config.app.state.service.follower.leave()
        await super().shutdown(sockets)
