"""The FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_stub import errors
from api_stub.auth import Asking
from api_stub.routes import health, runs, sessions
from api_stub.service import KeyRing, Service
from worker.events.follow import Follower
from worker.queue.app import make_app as make_celery
from worker.queue.dispatch import Dispatcher
from worker.settings import Settings
from worker.store.engine import Database

BODY_FACTOR = 6  # JSON can spell one byte of input as \uXXXX
BODY_REST = 262_144  # what a body holds beside its input


def make_app(settings: Settings) -> FastAPI:
    """Return the application for *settings*; it opens its connections when it starts, and closes them when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        db = Database(settings.database, pool_size=20)
        follower = Follower(settings.broker, prefix=settings.queue_prefix)
        dispatcher = Dispatcher(make_celery(settings), settings)
        app.state.service = Service(settings, db, dispatcher, follower, KeyRing(db))
        yield
        await follower.close()
        db.close()

    app = FastAPI(
        title="Team Sessions",
        version="1",
        summary="Durable, queue-backed sessions with teams of LLM agents.",
        lifespan=lifespan,
        openapi_url=None,  # served below, to those who have a key
    )
    app.include_router(runs.router)
    app.include_router(sessions.router)
    app.include_router(health.router)

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(_asking: Asking) -> dict[str, Any]:
        return app.openapi()

    errors.install(app)
    app.add_middleware(BodyLimit, limit=settings.max_input_bytes * BODY_FACTOR + BODY_REST)
    return app


class BodyLimit:
    """Refuses a body over *limit* bytes before it is read whole."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            await self._refusal(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise _TooLarge
            return message

        try:
            await self._app(scope, counted, send)
        except _TooLarge:
            await self._refusal(scope, receive, send)

    async def _refusal(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The body is larger than {self._limit} bytes. Shorten it, or raise TEAM_SESSIONS_MAX_INPUT_BYTES."
        await errors.problem(status=413, code="body_too_large", detail=detail)(scope, receive, send)


class _TooLarge(Exception):
    pass
