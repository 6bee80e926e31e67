"""The connections of an API process: how many there are, and how long each may do nothing.

uvicorn has limits for neither half requests nor slow readers, and its `limit_concurrency` refuses every request, probes
too, while too many connections are open. So this adds to its protocol:

- A request that is not whole after `REQUEST_S` ends its connection; every `BODY_RATE` bytes give it a second more.
- A reader that takes nothing for `READER_S` is cut off. It can resume a stream after its last event.
- Beyond the limit, a new connection takes the place of the oldest idle one, else of the oldest half request. If every
  connection is at work, it is answered with 503 and closed; `GET /healthz` is answered.
"""

import asyncio
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api_stub import errors
from worker import clock
from worker.errors import TooManyConnections
from worker.observe import logs
from worker.observe.rare_log import RareLog

# Longer than peers keep a connection that they will use again: nginx and AWS 60 s, Go 90 s, Google's load balancers
# 600 s. Otherwise this side closes it just as a request is sent on it. Idle ones take no place from others: see above.
KEEP_ALIVE_S = 620
REQUEST_S = 30.0
BODY_RATE = 65_536
READER_S = 60.0
SPARE = 32  # connections beyond the limit that are answered with 503; further ones are closed at once

log = logs.get(__name__)


class Connections:
    """All connections of one process."""

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.open = 0
        # Each in the order of time, the oldest first.
        self.idle: dict[BoundedProtocol, None] = {}
        self.unfinished: dict[BoundedProtocol, None] = {}
        self.refused = RareLog(partial(log.warning, "connections refused"))
        self.replaced = RareLog(partial(log.warning, "connections closed for others"))
        self.slow_request = RareLog(partial(log.warning, "requests that did not become whole"))
        self.slow_reader = RareLog(partial(log.warning, "readers cut off"))

    def make(self, **arguments: Any) -> "BoundedProtocol":
        """Return the protocol of a new connection, for uvicorn."""
        return BoundedProtocol(self, **arguments)

    def make_room(self) -> bool:
        """Close the connection that is needed least, if there are too many; False: all of them are at work."""
        if self.open <= self.limit:
            return True
        least_needed = next(iter(self.idle or self.unfinished), None)
        if least_needed is None:
            return False
        self.replaced.note(open=self.open, limit=self.limit)
        least_needed.give_way()
        return True


class BoundedProtocol(HttpToolsProtocol):
    """One connection. *connections*: those of its process."""

    def __init__(self, connections: Connections, *, config: Config, **arguments: Any) -> None:
        super().__init__(config=config, **arguments)
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._begun_at = 0.0
        self._received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._all.open += 1
        if not self._all.make_room():
            if self._all.open > self._all.limit + SPARE:
                transport.abort()
                return
            self._all.refused.note(open=self._all.open, limit=self._all.limit)
            self.app = _refuse_but_health(self.app, limit=self._all.limit)
        self._begin_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.open -= 1
        self._end_waiting()
        _cancel(self._reader_deadline)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self in self._all.idle:
            self._begin_request()
        super().data_received(data)

    def on_message_complete(self) -> None:
        """The parser has read a whole request."""
        self._end_waiting()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:  # it was answered before its end
            self._all.idle[self] = None
            self._deadline = self.loop.call_later(KEEP_ALIVE_S, self.give_way)

    def on_response_complete(self) -> None:
        """The response is sent. uvicorn closes the connection, begins a request that it has read, or is idle now."""
        waits_for_more = bool(self.pipeline)
        super().on_response_complete()
        if not (waits_for_more or self.transport.is_closing()):
            self._end_waiting()
            self._all.idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_deadline = self.loop.call_later(READER_S, self._cut_off_reader)

    def resume_writing(self) -> None:
        _cancel(self._reader_deadline)
        super().resume_writing()

    def give_way(self) -> None:
        """Close the connection, which serves no request."""
        self._end_waiting()
        self.transport.close()

    def _begin_request(self) -> None:
        self._end_waiting()
        self._all.unfinished[self] = None
        self._begun_at, self._received = clock.monotonic(), 0
        self._deadline = self.loop.call_later(REQUEST_S, self._end_half_request)

    def _end_waiting(self) -> None:
        _cancel(self._deadline)
        self._all.idle.pop(self, None)
        self._all.unfinished.pop(self, None)

    def _end_half_request(self) -> None:
        left = self._begun_at + REQUEST_S + self._received / BODY_RATE - clock.monotonic()
        if left > 0:
            self._deadline = self.loop.call_later(left, self._end_half_request)
            return
        self._all.slow_request.note(after_s=REQUEST_S)
        self.give_way()

    def _cut_off_reader(self) -> None:
        self._all.slow_reader.note(after_s=READER_S)
        self.transport.abort()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _refuse_but_health(app: ASGIApp, *, limit: int) -> Any:
    error = TooManyConnections(limit=limit)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await app(scope, receive, send)
            return
        response = errors.problem(status=error.status, code=error.code, detail=error.message, retry=error.retry)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)

    return answer
