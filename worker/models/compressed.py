"""How much of a response is taken from its server, before decompression.

`documents` counts what was decompressed. Here is what it does not see: the bodies of errors and redirects, which the
`openai` package and httpx2 read whole, and bytes that decompress to nothing. For the event hooks of a client.
"""

from collections.abc import AsyncIterator

import httpx2

from worker.domain import bounds
from worker.models.documents import TooLarge


async def bound(response: httpx2.Response) -> None:
    """Limit what is read of *response*. The body of an error ends at its limit: its first words are enough."""
    encodings = [name.strip() for name in response.headers.get("content-encoding", "identity").split(",")]
    plain = encodings == ["identity"]
    if response.is_success:
        limit = bounds.STREAM_BYTES if plain else bounds.COMPRESSED_BYTES
    elif len(encodings) > 1:
        limit = 0  # what is compressed twice is a bomb
    else:
        limit = bounds.ERROR_BYTES if plain else bounds.COMPRESSED_ERROR_BYTES
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Limited(response.stream, limit, ends=not response.is_success)


class _Limited(httpx2.AsyncByteStream):
    """About the first *limit* bytes of a stream. Then it *ends*, or raises TooLarge."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int, *, ends: bool) -> None:
        self._stream = stream
        self._limit = self._left = limit
        self._ends = ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._ends and not self._left:
            return
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0 and not self._ends:
                raise TooLarge("the whole answer, as it is sent,", f"{self._limit // 1024**2} MiB")
            yield piece
            if self._left < 0:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
