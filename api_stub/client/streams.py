"""Answers that are read as they arrive: a run's events, and JSON lines. No socket: bytes go in, split anywhere.

A broken stream of events resumes after the last event: nothing is missing, nothing comes twice.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from api_stub.client.core import Answer, Backoff, Lost, Request, Retries, parse_json
from api_stub.client.errors import Unreachable
from api_stub.client.types import EventType

T = TypeVar("T")

LINE_END = re.compile(rb"\r\n|\r|\n")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ENDS_A_RUN = "-0"  # ids are <fence>-<n>, and only a run's last event has n = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run; `ops/handbook/events.md` describes them. The data of the terminal event is the run."""

    id: str
    type: EventType
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether it is the run's last: 'run.completed', 'run.failed' or 'run.cancelled'."""
        return self.type in ("run.completed", "run.failed", "run.cancelled")


class Garbled(Exception):
    """The bytes are not an answer of this API."""


class Reading(ABC, Generic[T]):
    """Reads one answer until it has `ended`, over several connections if one breaks.

    For each connection: wait for `pause_s`, send `request()` and pass the head to `accepts`. If that is true, pass the
    bytes to `take` until there is `enough`, then call `closed`. Otherwise, or if the connection breaks, call `failed`.
    """

    media_type: str
    _backoff: Backoff

    def __init__(self, request: Request[T]) -> None:
        self.ended = False
        self.enough = False
        self.pause_s = 0.0
        self._request = request

    def begin(self, retries: Retries, *, api: str) -> None:
        """Set the retries, and the URL for messages."""
        self._backoff = Backoff(self._request, retries, api=api)

    def request(self) -> Request[T]:
        """Return the request for the next connection."""
        self.enough = False
        return self._request

    def accepts(self, head: Answer) -> bool:
        """Whether the body that follows this head is the answer."""
        return head.status == 200 and head.headers.get("content-type", "").startswith(self.media_type)

    def failed(self, failure: Answer | Lost) -> None:
        """Take another answer, or a broken connection.

        Raises:
            RequestFailed, Unreachable
        """
        if isinstance(failure, Answer) and failure.status == 200:
            failure = Lost("an answer of another content type")
        self.pause_s = self._backoff.after(failure)

    @abstractmethod
    def take(self, piece: bytes) -> list[T]:
        """Return the items that *piece* completes."""

    @abstractmethod
    def closed(self) -> None:
        """Note that the body has ended, or was left because there was `enough`. Raises the same errors as `failed`."""


class Watch(Reading[Event]):
    """Reads a run's events that follow *after*, up to the terminal one. It resumes after the last event it read."""

    media_type = "text/event-stream"

    def __init__(self, request: Request[Event], *, after: str | None) -> None:
        super().__init__(request)
        self.ended = after is not None and after.endswith(ENDS_A_RUN)
        self._last_id = after
        self._begin_connection()

    def request(self) -> Request[Event]:
        self._begin_connection()
        request = super().request()
        return replace(request, headers={"Last-Event-ID": self._last_id}) if self._last_id else request

    def take(self, piece: bytes) -> list[Event]:
        """Return the events that *piece* completes, without those that were read before."""
        events: list[Event] = []
        try:
            for event in self._parser.feed(piece):
                # If a proxy drops Last-Event-ID, the API sends all events again.
                if _is_after(event.id, self._last_id):
                    events.append(event)
                    self._last_id, self._backoff.failures = event.id, 0
                    self.ended = self.enough = event.terminal
                if self.enough:
                    break
        except Garbled as error:
            self._problem, self.enough = str(error), True
        self._alive = not self.enough
        return events

    def closed(self) -> None:
        if not self.ended:
            self.failed(Lost(self._problem))

    def failed(self, failure: Answer | Lost) -> None:
        if self._alive:  # a run that waits in its queue has no events, and some proxies cut every minute
            self._backoff.failures = 0
        super().failed(failure)

    def _begin_connection(self) -> None:
        self._parser = EventParser()
        self._alive = False
        self._problem = "an end before the run's last event"


class Lines(Reading[dict[str, Any]]):
    """Reads JSON lines. They cannot be resumed: after the first line, a broken connection is an error."""

    media_type = "application/"

    def __init__(self, request: Request[dict[str, Any]]) -> None:
        super().__init__(request)
        self._count = 0
        self._problem = ""
        self._splitter = LineSplitter()

    def request(self) -> Request[dict[str, Any]]:
        self._problem, self._splitter = "", LineSplitter()
        return super().request()

    def take(self, piece: bytes) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        try:
            for line in filter(None, self._splitter.feed(piece)):
                items.append(_object(line))
        except Garbled as error:
            self._problem, self.enough = str(error), True
        self._count += len(items)
        return items

    def closed(self) -> None:
        problem = self._problem or ("an end within a line" if self._splitter.rest else "")
        self.ended = not problem
        if problem:
            self.failed(Lost(problem))

    def failed(self, failure: Answer | Lost) -> None:
        if self._count and isinstance(failure, Lost):
            raise Unreachable(
                f"The answer of the API at {self._backoff.api} broke off after {self._count} lines, which are not all: "
                f"{failure.reason}. Begin again."
            )
        super().failed(failure)


class EventParser:
    """Parses the events of one connection (WHATWG HTML, 9.2.6).

    It leaves out an event without an id, which the API never sends, and one that is incomplete at the end.
    """

    def __init__(self) -> None:
        self._splitter = LineSplitter()
        self._first = True
        self._reset()

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that *piece* completes.

        Raises:
            Garbled: the data of an event is not a JSON object.
        """
        for line in self._splitter.feed(piece):
            if self._first:
                line, self._first = line.removeprefix(BYTE_ORDER_MARK), False
            if not line:
                if self._id and self._data:
                    yield Event(self._id, cast(EventType, self._type), _object(b"\n".join(self._data)))
                self._reset()
            else:
                self._read_field(line)

    def _reset(self) -> None:
        self._id, self._type = "", "message"
        self._data: list[bytes] = []

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")


class LineSplitter:
    """Splits bytes into lines at LF, CR or CRLF. `rest` is the line that has not ended yet."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that ended with *piece*, without their ends."""
        if not piece:
            return []
        *ended, rest = LINE_END.split(piece.removeprefix(b"\n") if self._after_cr else piece)
        self._after_cr = piece.endswith(b"\r")
        if ended:
            ended[0] = bytes(self.rest) + ended[0]
            self.rest.clear()
        self.rest += rest
        return ended


def _object(text: bytes) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise Garbled("data that is not a JSON object")
    return value


def _is_after(id: str, last_id: str | None) -> bool:
    position, last = _position(id), _position(last_id or "")
    return id != last_id if position is None or last is None else position > last


def _position(id: str) -> tuple[int, int] | None:
    fence, _, n = id.partition("-")
    digits = id.isascii() and fence.isdecimal() and n.isdecimal() and len(id) <= 40
    return (int(fence), int(n)) if digits else None
