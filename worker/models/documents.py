"""The JSON documents in a server's answer, whatever form it has.

Servers are asked for server-sent events. Some send one JSON body instead, or a document a line; and proxies add
comments, events without data, and other line ends. The decoder of the `openai` package fails on these, and reads
nothing of an answer that has no events.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import openai

KEEP_ALIVE = re.compile(r"\W*(ping|pong|keep.?alive|heartbeat|processing|connected)\W*", re.IGNORECASE)  # no answer
FIELDS = (b"", b"event", b"id", b"retry")  # of events, besides `data`; a line without a name is a comment
BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
_decoder = json.JSONDecoder()
DRAIN_S = 1.0  # for the rest of a response, so that its connection can be used again


class NotJson(Exception):
    """Text of an answer that is not JSON. `body`: the whole answer, if it is not a stream of events."""

    def __init__(self, text: str, *, body: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.body = body


async def read(response: httpx2.Response, add: Callable[[Any], None]) -> None:
    """Call *add* with each document of *response* as it arrives, up to `[DONE]` or the end.

    Raises:
        NotJson
        openai.APITimeoutError, openai.APIConnectionError: as the package raises them.
    """
    pieces, documents = response.aiter_bytes(), Documents()
    while (piece := await _next(pieces, response.request)) is not None:
        for document in documents.feed(piece):
            add(document)
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
    except httpx2.TimeoutException as error:
        raise openai.APITimeoutError(request=request) from error
    except Exception as error:
        raise openai.APIConnectionError(request=request) from error


class Documents:
    """Splits bytes into documents. `done`: `[DONE]` was read."""

    def __init__(self) -> None:
        self.done = False
        self._line: list[bytes] = []  # the pieces of a line, so that none is copied more than once
        self._event: list[bytes] = []  # the data of an event
        self._other: list[bytes] = []  # lines that are no part of an event
        self._is_empty = True

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the documents that end in *piece*. Lines end with LF or CRLF; after CR alone, `finish` does."""
        first, *more = piece.split(b"\n")
        self._line.append(first)
        for part in more:
            line, self._line = b"".join(self._line), [part]
            for each in line.splitlines() or (b"",):
                yield from self._add(each)

    def finish(self) -> Iterator[Any]:
        """Yield the documents that were not followed by an empty line, or the body that is no stream of events."""
        for line in b"".join(self._line).splitlines():
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
        elif name == b"error" and value.lstrip().startswith(b"{"):  # of llama.cpp
            self._event.append(b'{"error":' + value + b"}")
        elif name not in FIELDS:
            self._other.append(line.removeprefix(BOM))
        return []

    def _end_of_event(self) -> list[Any]:
        lines, self._event = self._event, []
        read = _parse(lines, of_event=True)
        self._is_empty = self._is_empty and not read
        return read


def _parse(lines: list[bytes], *, of_event: bool = False) -> list[Any]:
    """Return the document in *lines*, or one of each line. An event without data has none."""
    text = b"\n".join(lines).decode(errors="replace")
    try:
        return [json.loads(text)]
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
            document, end = _decoder.raw_decode(rest)
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
