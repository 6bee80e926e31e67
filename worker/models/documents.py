"""The JSON documents in a server's answer, whatever form it has.

Servers are asked for server-sent events. Some send one JSON body instead, or a document a line; and proxies add
comments, events without data, and other line ends. The decoder of the `openai` package fails on these, and reads
nothing of an answer that has no events.

What is read is bounded while it is read: an event, and the whole answer, both after decompression. Comments and other
signs of life of a server do not count as an answer: a model that sends nothing else is silent.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import openai

from worker.domain import bounds

KEEP_ALIVE = re.compile(r"\W*(ping|pong|keep.?alive|heartbeat|processing|connected)\W*", re.IGNORECASE)  # no answer
FIELDS = (b"", b"event", b"id", b"retry")  # of events, besides `data`; a line without a name is a comment
BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
LINE_BYTES = 64  # of memory that each line takes besides its text
DRAIN_S = 1.0  # for the rest of a response, so that its connection can be used again


class NotJson(Exception):
    """Text of an answer that is not JSON. `body`: the whole answer, if it is not a stream of events."""

    def __init__(self, text: str, *, body: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.body = body


class TooLarge(Exception):
    """A part of an answer is larger than its limit. `part` names it."""

    def __init__(self, part: str, limit: str) -> None:
        super().__init__()
        self.part = part
        self.limit = limit


async def read(response: httpx2.Response, add: Callable[[Any], bool], *, silence_s: float) -> None:
    """Call *add* with each document of *response* as it arrives, up to `[DONE]` or the end.

    *add* says whether the document is a part of an answer. One has to come within *silence_s* seconds after another.

    Raises:
        NotJson, TooLarge
        openai.APITimeoutError, openai.APIConnectionError: as the package raises them.
    """
    pieces, documents = response.aiter_bytes(), Documents()
    try:
        async with asyncio.timeout(silence_s) as silence:
            while not documents.done and (piece := await _next(pieces, response.request)) is not None:
                for document in documents.feed(piece):
                    if add(document):
                        silence.reschedule(asyncio.get_running_loop().time() + silence_s)
    except TimeoutError:
        raise openai.APITimeoutError(request=response.request) from None
    if documents.done:
        with suppress(TimeoutError, openai.APIConnectionError):
            async with asyncio.timeout(DRAIN_S):
                while await _next(pieces, response.request) is not None:
                    pass
        return
    for document in documents.finish():
        add(document)


async def _next(pieces: AsyncIterator[bytes], request: httpx2.Request) -> bytes | None:
    try:
        return await anext(pieces, None)
    except TooLarge:
        raise
    except Exception as error:
        raise lost(error, request) from error


def lost(error: Exception, request: httpx2.Request) -> openai.APIConnectionError:
    """Return what the package raises when a connection failed or was silent.

    Its client for aiohttp calls every lost connection a timeout. The cause tells which of them is one.
    """
    if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
        return openai.APITimeoutError(request=request)
    return openai.APIConnectionError(request=request)


class Documents:
    """Splits bytes into documents. `done`: `[DONE]` was read. Its methods raise TooLarge."""

    def __init__(self) -> None:
        self.done = False
        self._read = 0  # bytes
        self._count = 0  # of documents
        self._line = bytearray()  # the beginning of a line
        self._event: list[bytes] = []  # the data of an event
        self._other: list[bytes] = []  # lines that are no part of an event
        self._event_size = self._other_size = 0  # bytes that they take
        self._is_empty = True

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the documents that end in *piece*. Lines end with LF or CRLF; after CR alone, `finish` does."""
        self._read += len(piece)
        if self._read > bounds.STREAM_BYTES:
            raise _too_large("the whole answer", bounds.STREAM_BYTES)
        first, *more = piece.split(b"\n")
        self._begin(first)
        for part in more:
            line = bytes(self._line)
            self._line.clear()
            self._begin(part)
            for each in line.splitlines() or (b"",):
                yield from self._counted(self._add(each))

    def finish(self) -> Iterator[Any]:
        """Yield the documents that were not followed by an empty line, or the body that is no stream of events."""
        for line in bytes(self._line).splitlines():
            yield from self._add(line)
        yield from self._end_of_event()
        try:
            rest = _parse(self._other)
        except NotJson:
            if not self._is_empty:
                return
            body = b"\n".join(self._other).decode(errors="replace")
            raise NotJson(body, body=body) from None
        yield from rest

    def _begin(self, part: bytes) -> None:
        """Add the next part of a line."""
        self._line += part
        if len(self._line) + self._event_size + self._other_size > bounds.EVENT_BYTES:
            raise _too_large("one event of it", bounds.EVENT_BYTES)

    def _counted(self, documents: list[Any]) -> list[Any]:
        self._count += len(documents)
        if self._count > bounds.DOCUMENTS:
            raise TooLarge("the number of its events", f"{bounds.DOCUMENTS:,}")
        return documents

    def _add(self, line: bytes) -> list[Any]:
        if self.done:
            return []
        if not line:
            return self._end_of_event() if self._event else []
        name, _, value = line.removeprefix(BOM).partition(b":")
        if name == b"data":
            while value.lstrip().startswith(b"data:"):  # some servers write it twice
                value = value.lstrip().removeprefix(b"data:")
            if value.strip().startswith(DONE):
                self.done = True
                return self._end_of_event()
            self._event.append(value)
            self._event_size += len(value) + LINE_BYTES
        elif name == b"error" and value.lstrip().startswith(b"{"):  # of llama.cpp
            self._event.append(b'{"error":' + value + b"}")
            self._event_size += len(value) + LINE_BYTES
        elif name not in FIELDS:
            self._other.append(line.removeprefix(BOM))
            self._other_size += len(line) + LINE_BYTES
        return []

    def _end_of_event(self) -> list[Any]:
        lines, self._event, self._event_size = self._event, [], 0
        read = _parse(lines, of_event=True)
        self._is_empty = self._is_empty and not read
        return read


def _too_large(part: str, limit: int) -> TooLarge:
    return TooLarge(part, f"{limit // 1024**2} MiB")


def _int(digits: str) -> int | float:
    """Return a number; one with more digits than Python reads is a float."""
    return int(digits) if len(digits) < 1_000 else float(digits)


_DECODER = json.JSONDecoder(parse_int=_int)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number that is too long
        return _DECODER.decode(text)


def _parse(lines: list[bytes], *, of_event: bool = False) -> list[Any]:
    """Return the document in *lines*, or one of each line. An event without data has none."""
    text = b"\n".join(lines).decode(errors="replace")
    try:
        return [_loads(text)]
    except (ValueError, RecursionError):
        if not text.strip():
            return []
        if len(lines) == 1:
            return _parse_other(text, of_event=of_event)
        return [document for line in lines for document in _parse([line], of_event=of_event)]


def _parse_other(text: str, *, of_event: bool) -> list[Any]:
    """Return the documents of a line that is not one: several without a break, or the words of an event."""
    documents: list[Any] = []
    rest = text.strip()
    try:
        while rest.startswith("{"):
            document, end = _DECODER.raw_decode(rest)
            documents.append(document)
            rest = rest[end:].lstrip().removeprefix("data:").lstrip()
    except (ValueError, RecursionError):
        raise NotJson(text) from None
    if of_event and KEEP_ALIVE.fullmatch(rest):
        return []
    if of_event and rest[:1].isalpha():
        return [{"error": rest}]
    if not documents or (rest and not rest.startswith("[DONE]")):
        raise NotJson(text) from None
    return documents
