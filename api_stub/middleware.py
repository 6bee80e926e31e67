"""ASGI middleware: metrics, traces and logs of requests, a limit for bodies, and slashes in ids."""

from contextlib import AsyncExitStack
from urllib.parse import unquote

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_stub import errors
from api_stub.memory import SMALL, Memory
from worker import clock
from worker.errors import ApiBusy
from worker.observe import logs, metrics, tracing

log = logs.get(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "_OTHER"  # a route or a method that does not exist
PROBES = {"/healthz", "/readyz", "/metrics"}


class ObservabilityMiddleware:
    """Counts, times, traces and logs each request: at DEBUG, or at WARNING if it failed. Probes are only counted.

    Labels are the method, the route's template and the status: no path, no query, no id, no text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, answered_s = clock.monotonic(), None
        status = 500  # without an answer, the outermost handler answers with this

        async def send_timed(message: Message) -> None:
            nonlocal status, answered_s
            if message["type"] == "http.response.start":
                status, answered_s = message["status"], clock.monotonic() - started_at
            await send(message)

        probe = scope["path"] in PROBES
        method = scope["method"] if scope["method"] in METHODS else OTHER
        with tracing.untraced() if probe else tracing.request(method, traceparent=_traceparent(scope)) as span:
            try:
                await self._app(scope, receive, send_timed)
            finally:
                seconds = clock.monotonic() - started_at
                route = getattr(scope.get("route"), "path_format", "") or OTHER  # set by the router
                metrics.REQUESTS.labels(method, route, status).inc()
                metrics.ANSWER.labels(method, route).observe(seconds if answered_s is None else answered_s)
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    tracing.fail(span, str(status))
                if not probe:
                    write = log.warning if status >= 500 and not scope.get("refused") else log.debug
                    write("request answered", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _traceparent(scope: Scope) -> str | None:
    """Return the header that joins a request to its caller's trace; None if there is none, or more than one."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
    return values[0] if len(values) == 1 else None


class BodyLimitMiddleware:
    """Refuses a body over *limit* bytes before it is read whole. Large bodies wait for their place in *memory*."""

    def __init__(self, app: ASGIApp, *, limit: int, memory: Memory) -> None:
        self._app = app
        self._memory = memory
        self._limit = limit
        self._detail = f"The body is larger than {limit} bytes. Shorten it, or raise TEAM_SESSIONS_MAX_INPUT_BYTES."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            response = errors.problem(status=413, code="body_too_large", detail=self._detail)
            await response(scope, receive, send)
            return
        received = 0
        async with AsyncExitStack() as places:

            async def receive_limited() -> Message:
                nonlocal received
                message = await receive()
                size = len(message.get("body", b""))
                received += size
                # FastAPI passes its own exception on when it reads the body, and turns every other one into a 400.
                if received > self._limit:
                    raise HTTPException(413, self._detail)
                try:
                    if size:
                        self._memory.received.take_now(size)
                        places.callback(self._memory.received.give_back, size)
                    if size and received > SMALL and not message.get("more_body"):
                        await places.enter_async_context(self._memory.parsed.taken(received))
                except ApiBusy as busy:
                    raise HTTPException(busy.status, busy.message) from None
                return message

            await self._app(scope, receive_limited, send)


class PathSegmentsMiddleware:
    """Keeps an id in one segment of the path, also if it contains a slash, sent as %2F.

    A path is decoded before it is routed. This keeps `%` and `/` encoded inside a segment; `dependencies` decodes them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%" in raw:
            segments = [unquote(segment) for segment in raw.decode("latin-1").split("/")]
            scope = {**scope, "path": "/".join(s.replace("%", "%25").replace("/", "%2F") for s in segments)}
        await self._app(scope, receive, send)
