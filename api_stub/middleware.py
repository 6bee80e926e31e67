"""What operators see of a request: counts and times, a span, a line in the log at DEBUG, or at WARNING if it failed.

By its method, the route's template, the status and the time that it took: no path, no query, no id, no text.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker import clock
from worker.observe import logs, metrics, tracing

log = logs.get(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "_OTHER"  # a route that there is not, a method that nobody knows
PROBES = {"/healthz", "/readyz", "/metrics"}


class ObservabilityMiddleware:
    """Tells of each request; of those that ask how the process is, only their counts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, answered_s = clock.monotonic(), None
        status = 500  # where nothing was answered, the outermost handler answers with this

        async def noted(message: Message) -> None:
            nonlocal status, answered_s
            if message["type"] == "http.response.start":
                status, answered_s = message["status"], clock.monotonic() - begun
            await send(message)

        probe = scope["path"] in PROBES
        method = scope["method"] if scope["method"] in METHODS else OTHER
        with tracing.untraced() if probe else tracing.request(method, traceparent=_traceparent(scope)) as span:
            try:
                await self._app(scope, receive, noted)
            finally:
                seconds = clock.monotonic() - begun
                route = getattr(scope.get("route"), "path_format", "") or OTHER  # the router has put it there
                metrics.REQUESTS.labels(method, route, status).inc()
                metrics.ANSWER.labels(method, route).observe(seconds if answered_s is None else answered_s)
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    tracing.fail(span, str(status))
                if not probe:
                    say = log.warning if status >= 500 else log.debug
                    say("request answered", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _traceparent(scope: Scope) -> str | None:
    """Return the header by which a caller names its place in a trace; None: there is none, or more than one."""
    found = [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
    return found[0] if len(found) == 1 else None
