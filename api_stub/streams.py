"""Responses that last: event streams, waits for the end of a run, and downloads.

Each of them holds a connection, so they are limited, for each key and in all. Each ends within two seconds of its key:
once a second, one statement checks the keys of all of them. See decision 30.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from worker.domain import Principal
from worker.errors import DatabaseUnavailable, KeyInvalid, TooManyStreams, TooManyStreamsOfKey
from worker.observe import logs
from worker.observe.rare_log import RareLog
from worker.store import Database, api_keys

CHECK_S = 1.0
SEND_S = 1.0  # the end of a stream is sent for this long; its reader may have stopped reading
KEYS_AT_ONCE = 500  # in one statement

log = logs.get(__name__)


class OpenStreams:
    """The responses of one process that last, by key. It belongs to one event loop."""

    def __init__(self, db: Database, *, limit: int, limit_of_key: int) -> None:
        self._db = db
        self._limit = limit
        self._limit_of_key = limit_of_key
        self._of_key: dict[str, set[asyncio.Timeout]] = defaultdict(set)
        self._count = 0
        self._checking: asyncio.Task[None] | None = None
        self._refused = RareLog(partial(log.warning, "streams refused"))

    @asynccontextmanager
    async def open(self, principal: Principal) -> AsyncIterator[None]:
        """Count the block as an open stream of the principal's key, and end it once the key has ended.

        Raises:
            TooManyStreams, TooManyStreamsOfKey: the block does not begin.
            KeyInvalid: the key ended during the block.
        """
        key_id = principal.key_id
        self._check_limits(key_id)
        # It has no deadline until the key ends. Then the block gets one that has passed.
        ending = asyncio.timeout(None)
        self._of_key[key_id].add(ending)
        self._count += 1
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_keys())
        try:
            async with ending:
                yield
        except TimeoutError:
            if ending.expired():
                raise KeyInvalid() from None
            raise
        finally:
            self._count -= 1
            self._of_key[key_id].discard(ending)
            if not self._of_key[key_id]:
                del self._of_key[key_id]

    async def close(self) -> None:
        """Stop checking keys."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    def _check_limits(self, key_id: str) -> None:
        try:
            if len(self._of_key.get(key_id, ())) >= self._limit_of_key:
                raise TooManyStreamsOfKey(limit=self._limit_of_key)
            if self._count >= self._limit:
                raise TooManyStreams(limit=self._limit)
        except (TooManyStreams, TooManyStreamsOfKey) as error:
            self._refused.note(code=error.code, key_id=key_id, open=self._count)
            raise

    async def _check_keys(self) -> None:
        """End the streams whose key has ended, until none is open."""
        try:
            while self._of_key:
                await asyncio.sleep(CHECK_S)
                open_keys = list(self._of_key)
                try:
                    in_force = await asyncio.to_thread(self._in_force, open_keys)
                except DatabaseUnavailable:
                    continue
                for key_id in open_keys:
                    if key_id not in in_force:
                        self._end(key_id)
        finally:
            self._checking = None

    def _in_force(self, key_ids: list[str]) -> set[str]:
        found: set[str] = set()
        with self._db.read() as tx:
            for first in range(0, len(key_ids), KEYS_AT_ONCE):
                found |= api_keys.in_force_of(tx, key_ids[first : first + KEYS_AT_ONCE])
        if len(found) < len(key_ids):
            with self._db.write() as tx:
                api_keys.seal_ended(tx)
        return found

    def _end(self, key_id: str) -> None:
        streams = self._of_key.get(key_id, set())
        if streams:
            log.warning("streams ended with their key", key_id=key_id, streams=len(streams))
        for ending in list(streams):
            if ending.when() is None:
                ending.reschedule(asyncio.get_running_loop().time())


class LastingResponse(StreamingResponse):
    """A response that counts as an open stream while it is sent. *content* is closed with it.

    *resumable*: its reader sees from its last line whether it is whole, so it ends in order with its key. Any other is
    broken off, because a part of a download must not look like all of it.
    """

    def __init__(
        self,
        content: AsyncGenerator[str] | Iterator[str],
        streams: OpenStreams,
        principal: Principal,
        *,
        media_type: str,
        headers: dict[str, str] | None = None,
        resumable: bool = False,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._content = content
        self._streams = streams
        self._principal = principal
        self._resumable = resumable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            TooManyStreams, TooManyStreamsOfKey, KeyInvalid: nothing was sent.
        """
        started = False

        async def send_counted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with self._streams.open(self._principal):
                await super().__call__(scope, receive, send_counted)
        except KeyInvalid:
            if not started:
                raise
            if self._resumable:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if isinstance(self._content, AsyncGenerator):
                await self._content.aclose()
