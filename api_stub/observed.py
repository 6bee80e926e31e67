"""What operators see of a request: a span, and a line in the log at DEBUG, or at WARNING where the server failed.

By its method, the route's template, the status and the time that it took: no path, no query, no id, no text.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import clock
from worker.observe import logs, tracing

log = logs.get(__name__)

METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"}
PROBES = {"/healthz", "/readyz", "/metrics"}


class Observed:
    """Tells of each request but those that ask how the process is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        begun = clock.monotonic()
        status = 500  # where nothing was answered, the outermost handler answers with this

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        traceparent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        with tracing.request(method, traceparent=traceparent[0] if len(traceparent) == 1 else None) as span:
            try:
                await self._app(scope, receive, noted)
            finally:
                route = getattr(scope.get("route"), "path_format", "") or "_OTHER"
                span.rename(f"{method} {route}")
                span.tell({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    span.fail(str(status))
                say = log.warning if status >= 500 else log.debug
                ms = round((clock.monotonic() - begun) * 1000, 1)
                say("request answered", method=method, route=route, status=status, ms=ms)
