"""Reads the streams of runs as they grow, for all watchers of a process, over one connection.

One task, the reader, waits for the next entry of every watched stream in one blocking XREAD, and gives it to the
watchers that wait for it. A watcher that is behind reads its next page itself, so nothing is kept for a slow watcher.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.clock import monotonic
from worker.domain import Event, EventId
from worker.events import stream_key
from worker.events.connections import connect_async

PAUSE_S = 1.0  # between two tries while Redis is away
ANSWER_S = 2.0  # a frozen server does not answer at all
BLOCK_S = 1.0  # of one read of the reader; a stream that is added ends it sooner
KEPT_S = 5.0  # a stream without a waiting watcher is still read for this long: its watchers may be sending
LINGER_S = 2.0  # without a stream, the reader keeps its connection for this long
PAGE = 100  # entries of one stream in one read
PAGES_AT_ONCE = 4  # connections that read pages
BELL_TTL_S = 60
GATHER_S = 20e-6  # per stream, before each read: the more streams a read names, the more it costs

# With a timeout of redis-py itself, a cancelled watcher would sometimes go on: it uses `asyncio.wait_for`, which loses
# cancellations before Python 3.12: https://github.com/python/cpython/issues/86296
_OPTIONS: dict[str, Any] = {"socket_connect_timeout": ANSWER_S, "socket_timeout": None, "decode_responses": True}

Entries = list[tuple[EventId, Event]]
_Entry = tuple[str, dict[str, str]]


@dataclass(slots=True)
class _Stream:
    """A watched stream: through which entry the reader has read it, and who waits for the next, after which id."""

    read_through: EventId
    used_at: float
    waiting: dict["asyncio.Future[Entries]", EventId] = field(default_factory=dict)


class Follower:
    """Reads streams for all watchers of this process. It belongs to one event loop."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        self._redis = connect_async(url, size=PAGES_AT_ONCE, wait_s=ANSWER_S, **_OPTIONS)
        self._streams: dict[str, _Stream] = {}
        self._reader: asyncio.Task[None] | None = None
        self._added = asyncio.Event()
        self._bell = _Bell(self._redis, key=stream_key(prefix, f"bell-{secrets.token_hex(8)}"))
        self._away_until = 0.0
        self.leaving = False

    async def read(self, run_id: str, *, after: EventId, wait_s: float) -> Entries:
        """Return the events after *after*, in order. Empty: none within *wait_s* (0: none yet), or Redis is away.

        *after* is the id of an entry, or 0-0. Also empty, at once, when `leaving`: a loop must check that.
        """
        if not wait_s:
            return await self._page(run_id, after=after) or []
        deadline = monotonic() + wait_s
        while not self.leaving and (left := deadline - monotonic()) > 0:
            stream = self._streams.get(run_id)
            before = stream.read_through if stream is not None else None
            if before is None or before > after:
                page = await self._page(run_id, after=after)
                if page:
                    return page
                if page is None:
                    await asyncio.sleep(min(PAUSE_S, left))
                    continue
            stream = self._add(run_id, after=after)
            if stream.read_through > after and stream.read_through != before:
                continue  # the reader has read on during the read of the page
            if events := await _next_of(stream, after=after, wait_s=deadline - monotonic()):
                return events
        return []

    async def newest(self, run_id: str) -> EventId:
        """Return the id of the last event; 0-0 if there is none, or while Redis is away."""
        entries = await self._answer(partial(self._redis.xrevrange, stream_key(self._prefix, run_id), count=1))
        return _id(entries[0][0]) if entries else EventId(0, 0)

    async def back(self, run_id: str, *, until: EventId) -> AsyncGenerator[Entries]:
        """Yield the entries up to *until* in pages, the last page first; none, or no more, while Redis is away."""
        last, key = str(until), stream_key(self._prefix, run_id)
        while page := await self._answer(partial(self._redis.xrevrange, key, max=last, count=PAGE)):
            yield _events(page)
            last = f"({page[-1][0]}"

    def leave(self) -> None:
        """End all reads, present and future, because this process is about to end."""
        self.leaving = True
        for stream in self._streams.values():
            for waiting in stream.waiting:
                if not waiting.done():
                    waiting.set_result([])
        if self._reader is not None:
            self._reader.cancel()

    async def close(self) -> None:
        """Close every connection."""
        self.leave()
        if self._reader is not None:
            await asyncio.wait([self._reader])
        await self._bell.close()
        await self._redis.aclose()

    async def _page(self, run_id: str, *, after: EventId) -> Entries | None:
        """Read the next entries of one stream; None: Redis is away."""
        key = stream_key(self._prefix, run_id)
        entries = await self._answer(partial(self._redis.xrange, key, min=f"({after}", count=PAGE))
        return None if entries is None else _events(entries)

    async def _answer(self, question: Callable[[], Awaitable[Any]]) -> list[_Entry] | None:
        """Return what Redis answers; None: it is away, or was less than a second ago."""
        try:
            if monotonic() < self._away_until:
                return None
            async with asyncio.timeout(ANSWER_S):
                answer: list[_Entry] = await question()
                return answer
        except (RedisError, OSError, TimeoutError):
            self._away_until = monotonic() + PAUSE_S
            return None

    def _add(self, run_id: str, *, after: EventId) -> _Stream:
        """Return the stream as the reader reads it; one that it does not read yet, it reads after *after*."""
        if run_id not in self._streams:
            self._streams[run_id] = _Stream(after, monotonic())
            self._added.set()
            self._bell.ring()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read_on())
        return self._streams[run_id]

    async def _read_on(self) -> None:
        """Read all streams until there has been none for a while."""
        redis = connect_async(self._url, size=1, wait_s=ANSWER_S, **_OPTIONS)
        try:
            while self._streams or await self._is_added():
                await asyncio.sleep(len(self._streams) * GATHER_S)
                begun = monotonic()
                try:
                    for run_id, entries in await self._next_entries(redis):
                        if (stream := self._streams.get(run_id)) is not None:
                            _give(stream, entries)
                except TimeoutError:
                    if (
                        monotonic() - begun < BLOCK_S + 2 * ANSWER_S
                    ):  # longer: not the server, this event loop stood still
                        self._away_until = monotonic() + PAUSE_S
                except (RedisError, OSError):
                    self._away_until = monotonic() + PAUSE_S
                    await asyncio.sleep(PAUSE_S)
                self._forget_unwatched()
        finally:
            self._reader = None
            await redis.aclose()

    async def _is_added(self) -> bool:
        self._added.clear()
        try:
            async with asyncio.timeout(LINGER_S):
                return await self._added.wait()
        except TimeoutError:
            return False

    async def _next_entries(self, redis: Redis) -> list[tuple[str, list[_Entry]]]:
        """Wait for entries of any stream; return them by run."""
        runs = {stream_key(self._prefix, run_id): run_id for run_id in self._streams}
        after: dict[Any, Any] = {key: str(self._streams[run_id].read_through) for key, run_id in runs.items()}
        with self._bell.heard() as bell:
            async with asyncio.timeout(BLOCK_S + ANSWER_S):
                answer: Any = await redis.xread(after | bell, count=PAGE, block=int(BLOCK_S * 1000))
        return [(runs[key], entries) for key, entries in answer or () if key in runs]

    def _forget_unwatched(self) -> None:
        now = monotonic()
        self._streams = {
            run_id: stream
            for run_id, stream in self._streams.items()
            if stream.waiting or now - stream.used_at < KEPT_S
        }


class _Bell:
    """A stream of this process alone. An entry in it ends the reader's read, so that the next one names new streams.

    Not CLIENT UNBLOCK: an ACL may forbid it, and it does nothing if it comes just before the read.
    """

    def __init__(self, redis: Redis, *, key: str) -> None:
        self._redis = redis
        self._key = key
        self._rings = 0
        self._is_heard = False
        self._ringing: set[asyncio.Task[None]] = set()

    @contextmanager
    def heard(self) -> Iterator[dict[Any, Any]]:
        """Yield what a read must name to be ended by the next ring."""
        self._is_heard = True
        try:
            yield {self._key: f"{self._rings}-0"}
        finally:
            self._is_heard = False

    def ring(self) -> None:
        """End the read that is under way. Without one, the next read names every stream anyway."""
        if not self._is_heard:
            return
        self._is_heard = False  # one ring is enough
        self._rings += 1
        ringing = asyncio.create_task(self._ring(f"{self._rings}-0"))
        self._ringing.add(ringing)
        ringing.add_done_callback(self._ringing.discard)

    async def close(self) -> None:
        """End the rings that are under way."""
        for ringing in self._ringing:
            ringing.cancel()
        if self._ringing:
            await asyncio.wait(self._ringing)

    async def _ring(self, id: str) -> None:
        # Without it the read ends by itself, within BLOCK_S: also if Redis refuses writes.
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S), self._redis.pipeline(transaction=False) as pipeline:
                pipeline.xadd(self._key, {"ring": ""}, id=id, maxlen=1, approximate=False)
                pipeline.expire(self._key, BELL_TTL_S)
                await pipeline.execute()


async def _next_of(stream: _Stream, *, after: EventId, wait_s: float) -> Entries:
    """Wait until the reader gives the next entries after *after*; empty: it gave none within *wait_s*."""
    waiting: asyncio.Future[Entries] = asyncio.get_running_loop().create_future()
    stream.waiting[waiting] = after
    try:
        await asyncio.wait([waiting], timeout=max(0.0, wait_s))
        return waiting.result() if waiting.done() else []
    finally:
        del stream.waiting[waiting]
        stream.used_at = monotonic()


def _give(stream: _Stream, entries: Sequence[_Entry]) -> None:
    """Give entries that the reader has read to the watchers that wait for them."""
    events = _events(entries)
    stream.read_through = _id(entries[-1][0])
    for waiting, after in stream.waiting.items():
        if not waiting.done() and (later := [event for event in events if event[0] > after]):
            waiting.set_result(later)


def _events(entries: Sequence[_Entry]) -> Entries:
    """Return the events of entries. What is no event is left out: only the broker's owner can have written it."""
    events: Entries = []
    for id, fields in entries:
        with suppress(KeyError, ValueError):
            events.append((_id(id), Event(fields["type"], json.loads(fields["data"]))))
    return events


def _id(text: str) -> EventId:
    fence, _, n = text.partition("-")
    return EventId(int(fence), int(n))
