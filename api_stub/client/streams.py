"""Answers that are read while they come: a run's events, and JSON lines. No socket: bytes go in, cut anywhere.

A stream of events that breaks is resumed behind the last event that was read, as often as it takes while it gets on:
nothing is missing and nothing comes twice.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from api_stub.client.core import Answer, Lost, Patience, Request, Retries
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
    """What came is nothing that this API sends."""


class Reading(ABC, Generic[T]):
    """Reads one answer, over as many connections as it takes, until it has `ended`.

    For each connection: wait for `pause_s`, send `request()` and ask `accepts` about the head. If it does, give the
    bytes to `take` until it has had `enough`, then call `closed`; if not, or when the connection breaks, call `failed`.
    """

    media_type: str

    def __init__(self, request: Request[T]) -> None:
        self.ended = False
        self.enough = False
        self.pause_s = 0.0
        self._request = request
        self._patience = Patience(request, Retries())

    def begin(self, retries: Retries) -> None:
        """Be as patient as *retries* says."""
        self._patience = Patience(self._request, retries)

    def request(self) -> Request[T]:
        """Return the request for the next connection."""
        self.enough = False
        return self._request

    def accepts(self, head: Answer) -> bool:
        """Whether the body behind this head is one to read."""
        return head.status == 200 and head.headers.get("content-type", "").startswith(self.media_type)

    def failed(self, failure: Answer | Lost) -> None:
        """Say that a connection brought something else, or broke.

        Raises:
            RequestFailed, Unreachable
        """
        if isinstance(failure, Answer) and failure.status == 200:
            failure = Lost("an answer of another type")
        self.pause_s = self._patience.after(failure)

    @abstractmethod
    def take(self, piece: bytes) -> list[T]:
        """Return what became whole with *piece*."""

    @abstractmethod
    def closed(self) -> None:
        """Say that the body has ended, or was left because there was `enough`. Raises what `failed` does."""


class Watch(Reading[Event]):
    """Reads a run's events behind *after*, up to the terminal one; it resumes behind the last one that was read."""

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
        """Return the events that became whole with *piece*, without those that were read before."""
        found: list[Event] = []
        try:
            # A proxy that drops Last-Event-ID has the story told from its beginning.
            for event in self._parser.feed(piece):
                if _is_behind(event.id, self._last_id):
                    found.append(event)
                    self._last_id, self._patience.failures = event.id, 0
                    self.ended = self.enough = event.terminal
                if self.enough:
                    break
        except Garbled as error:
            self._trouble, self.enough = str(error), True
        self._lives = not self.enough
        return found

    def closed(self) -> None:
        if not self.ended:
            self.failed(Lost(self._trouble))

    def failed(self, failure: Answer | Lost) -> None:
        if self._lives:  # a run that waits in its queue has no events, and some proxies cut every minute
            self._patience.failures = 0
        super().failed(failure)

    def _begin_connection(self) -> None:
        self._parser = EventParser()
        self._lives = False
        self._trouble = "an end before the run's last event"


class Lines(Reading[dict[str, Any]]):
    """Reads JSON lines. They cannot be resumed: behind the first line a break is an error."""

    media_type = "application/"

    def __init__(self, request: Request[dict[str, Any]]) -> None:
        super().__init__(request)
        self._count = 0
        self._trouble = ""
        self._cutter = Cutter()

    def request(self) -> Request[dict[str, Any]]:
        self._trouble, self._cutter = "", Cutter()
        return super().request()

    def take(self, piece: bytes) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        try:
            for line in filter(None, self._cutter.feed(piece)):
                found.append(_object(line))
        except Garbled as error:
            self._trouble, self.enough = str(error), True
        self._count += len(found)
        return found

    def closed(self) -> None:
        trouble = self._trouble or ("an end within a line" if self._cutter.rest else "")
        self.ended = not trouble
        if trouble:
            self.failed(Lost(trouble))

    def failed(self, failure: Answer | Lost) -> None:
        if self._count and isinstance(failure, Lost):
            raise Unreachable(f"{failure.reason}, after {self._count} lines, which are not all", tries=1)
        super().failed(failure)


class EventParser:
    """Makes events of the bytes of one connection (WHATWG HTML, 9.2.6).

    An event without an id is none of ours, and is left out; so is one that the connection breaks off.
    """

    def __init__(self) -> None:
        self._cutter = Cutter()
        self._first = True
        self._forget()

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that became whole with *piece*.

        Raises:
            Garbled: the data of one is no JSON object.
        """
        for line in self._cutter.feed(piece):
            if self._first:
                line, self._first = line.removeprefix(BYTE_ORDER_MARK), False
            if not line:
                if self._id and self._data:
                    yield Event(self._id, cast(EventType, self._type), _object(b"\n".join(self._data)))
                self._forget()
            else:
                self._read_field(line)

    def _forget(self) -> None:
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


class Cutter:
    """Cuts bytes into lines, which end as LF, CR or CRLF says. `rest` is the line that has not ended yet."""

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
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Garbled("data that is no JSON object")
    return found


def _is_behind(id: str, last_id: str | None) -> bool:
    place, last = _place(id), _place(last_id or "")
    return id != last_id if place is None or last is None else place > last


def _place(id: str) -> tuple[int, int] | None:
    fence, _, n = id.partition("-")
    digits = id.isascii() and fence.isdecimal() and n.isdecimal() and len(id) <= 40
    return (int(fence), int(n)) if digits else None
