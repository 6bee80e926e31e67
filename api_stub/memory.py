"""What keeps the memory of an API process bounded, however many clients send and read large values at once.

- Few requests at a time read rows that can be large, until their answer is made. The others wait.
- The large bodies that are being parsed share a number of bytes: as objects they take up to thirty times as much.
- The objects of a body have few fields, except for those that a caller shapes, such as metadata: each unknown field is
  an error of its own.

A request that waits too long is answered with 503, and can be sent again.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response

from api_stub.json_route import JsonRoute
from worker.errors import ApiBusy

READERS = 3  # requests that read large rows at once; a page is `store.pages.PAGE_BYTES`
PARSED_BYTES = 4 * 1024 * 1024  # of bodies at once; a larger one is parsed alone
RECEIVED_BYTES = 48 * 1024 * 1024  # of bodies at once, also those that wait to be parsed
SMALL = 16 * 1024  # bytes of a body for which nothing waits
WAIT_S = 30.0
FIELDS = 100  # of one object of a body
FREE = {"metadata", "session_state", "dependencies"}  # fields with an object that a caller shapes
OBJECTS = 250_000  # objects, lists and fields of a body: each can take a hundred bytes
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)  # it also matches one without an end: linear


class Places:
    """A number of places, or of bytes. Requests wait for them in the order in which they came.

    One that needs more than all of them gets them alone.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def taken(self, size: int = 1) -> AsyncIterator[None]:
        """Hold *size* places for the block. Raises ApiBusy: they were not free in time."""
        await self._take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def take_now(self, size: int) -> None:
        """Take *size* places without waiting. Raises ApiBusy."""
        if not self._has_room(size):
            raise ApiBusy()
        self._taken += size

    def give_back(self, size: int = 1) -> None:
        """Give *size* places back, to those who wait first."""
        self._taken -= size
        while self._waiting and self._has_room(self._waiting[0][1]):
            place, size_of_next = self._waiting.popleft()
            if not place.done():
                self._taken += size_of_next
                place.set_result(None)

    async def _take(self, size: int) -> None:
        if not self._waiting and self._has_room(size):
            self._taken += size
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, size))
        try:
            async with asyncio.timeout(WAIT_S):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.give_back(size)  # it was given in the same moment
            place.cancel()
            self.give_back(0)
            if isinstance(error, TimeoutError):
                raise ApiBusy() from None
            raise

    def _has_room(self, size: int) -> bool:
        return self._taken + size <= self._count or not self._taken


class Memory:
    """The places of one process."""

    def __init__(self) -> None:
        self.readers = Places(READERS)
        self.parsed = Places(PARSED_BYTES)
        self.received = Places(RECEIVED_BYTES)


async def _read_large(request: Request) -> AsyncIterator[None]:
    async with request.app.state.memory.readers.taken():
        yield


ReadsLarge = Annotated[None, Depends(_read_large, scope="function")]
"""The dependency of a route whose answer can be large. Name it last, so that a request without a key does not wait."""


class BoundedRoute(JsonRoute):
    """A route that refuses a body with more fields than any object of the API has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            return await handle(_BoundedRequest(request.scope, request.receive))

        return handle_bounded


class _BoundedRequest(Request):
    async def json(self) -> Any:
        text = await self.body()
        if has_too_many_objects(text):
            raise HTTPException(413, f"The body has more than {OBJECTS:,} objects, lists and fields.")
        body = await super().json()
        if (count := _most_fields(body)) > FIELDS:
            raise HTTPException(413, f"An object of the body has {count:,} fields; the limit is {FIELDS}.")
        return body


def has_too_many_objects(text: bytes) -> bool:
    """Tell whether a JSON text has more objects, lists and fields than a body may have. Strings may hold anything."""
    return _signs(text) > OBJECTS and _signs(_STRING.sub(b"", text)) > OBJECTS


def _signs(text: bytes) -> int:
    return sum(text.count(sign) for sign in (b"[", b"{", b":"))


def _most_fields(value: Any) -> int:
    """Return the number of fields of the largest object in a body, without what is inside of the `FREE` fields."""
    if isinstance(value, list):
        return max((_most_fields(entry) for entry in value if isinstance(entry, dict)), default=0)
    if not isinstance(value, dict) or len(value) > FIELDS:
        return len(value) if isinstance(value, dict) else 0
    inner = (_most_fields(child) for name, child in value.items() if name not in FREE)
    return max(len(value), *inner, 0)
