"""The FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, HTTPException
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_stub import errors
from api_stub.auth import AnyScope
from api_stub.installation import Installation
from api_stub.middleware import ObservabilityMiddleware
from api_stub.rate_limit import RateLimiter
from api_stub.routes import batches, health, metrics, runs, sessions, summaries, teams, users, why
from api_stub.schemas import Problem
from api_stub.service import KeyRing, Service
from worker.events.erase import Eraser
from worker.events.follow import Follower
from worker.observe import metrics as observed
from worker.observe import tracing
from worker.process.metrics_access import MetricsAccess
from worker.queue.app import make_app as make_celery
from worker.queue.dispatch import Dispatcher
from worker.runs.known_teams import KnownTeams
from worker.runs.queue_limits import QueueLimits
from worker.settings import Settings
from worker.store.engine import Database

BODY_FACTOR = 6  # JSON can spell one byte of input as \uXXXX
BODY_REST = 262_144  # what a body holds beside its input
# The framework's own traces name paths and queries, which hold ids of users, and its logs the words of exceptions.
_NOT_ITS_OWN: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def make_app(settings: Settings) -> FastAPI:
    """Return the application for *settings*; it opens its connections when it starts, and closes them when it ends."""
    tracing.configure(settings.otlp_endpoint)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        db = Database(settings.database, pool_size=20)
        follower = Follower(settings.broker, prefix=settings.queue_prefix)
        dispatcher = Dispatcher(make_celery(settings), settings)
        eraser = Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds)
        app.state.service = Service(
            settings,
            db,
            dispatcher,
            follower,
            eraser,
            KeyRing(db),
            KnownTeams(db),
            QueueLimits(db, settings),
            RateLimiter(settings.requests_per_minute),
            MetricsAccess(db),
            Installation(db, dispatcher),
        )
        observed.preset()
        yield
        await follower.close()
        eraser.close()
        db.close()
        tracing.flush()

    app = _Described(
        title="Team Sessions",
        version="1",
        summary="Durable, queue-backed sessions with teams of LLM agents.",
        lifespan=lifespan,
        openapi_url=None,  # served below, to those who have a key
        telemetry=_NOT_ITS_OWN,
    )
    app.include_router(runs.router)
    app.include_router(why.router)
    app.include_router(sessions.router)
    app.include_router(summaries.router)
    app.include_router(batches.router)
    app.include_router(users.router)
    app.include_router(teams.router)
    app.include_router(health.router)
    app.include_router(metrics.router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(_principal: AnyScope) -> dict[str, Any]:
        return app.openapi()

    errors.install(app)
    app.add_middleware(BodyLimit, limit=settings.max_input_bytes * BODY_FACTOR + BODY_REST)
    app.add_middleware(ObservabilityMiddleware)
    app.add_middleware(WholeSegments)
    return app


class _Described(FastAPI):
    """Describes what a refusal looks like once, by its name; FastAPI knows of no other kind of JSON than its own."""

    def openapi(self) -> dict[str, Any]:
        told = super().openapi()
        told["components"]["schemas"][Problem.__name__] = Problem.model_json_schema()
        return told


class BodyLimit:
    """Refuses a body over *limit* bytes before it is read whole."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._detail = f"The body is larger than {limit} bytes. Shorten it, or raise TEAM_SESSIONS_MAX_INPUT_BYTES."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            refusal = errors.problem(status=413, code="body_too_large", detail=self._detail)
            await refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # FastAPI lets its own exception through where it reads the body, and hides every other in a 400.
                raise HTTPException(413, self._detail)
            return message

        await self._app(scope, counted, send)


class WholeSegments:
    """Keeps an id in its segment of the path: a slash in it, sent as %2F, separates nothing.

    A path is decoded before it is routed. Here `%` and `/` stay encoded inside a segment; `parameters.py` decodes them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%" in raw:
            segments = [unquote(segment) for segment in raw.decode("latin-1").split("/")]
            scope = {**scope, "path": "/".join(s.replace("%", "%25").replace("/", "%2F") for s in segments)}
        await self._app(scope, receive, send)
