"""Reads the stream of a run as it grows. Async: a watcher is a waiting socket, not a thread.

Watchers that wait for the same event of a run share one read, since reads are the larger part of the cost.
"""

import asyncio
import json
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.clock import monotonic
from worker.domain import Event, EventId
from worker.events import stream_key

PAUSE_S = 1.0  # between two tries while Redis is away

Entries = list[tuple[EventId, Event]]


class Follower:
    """Reads streams for all watchers of this process."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._redis = Redis.from_url(url, socket_connect_timeout=2, max_connections=20_000, decode_responses=True)
        self._prefix = prefix
        self._reading: dict[tuple[str, EventId], asyncio.Task[Entries]] = {}
        self.leaving = False

    async def read(self, run_id: str, *, after: EventId, wait_s: float) -> Entries:
        """Return the events after *after*, in order. Empty: none within *wait_s* (0: none yet), or Redis is away.

        Also empty, at once, when `leaving`: a loop must check that.
        """
        if not wait_s:
            return await self._read(run_id, after=after, wait_s=0)
        position, deadline = (run_id, after), monotonic() + wait_s
        while not self.leaving and (left := deadline - monotonic()) > 0:
            if position not in self._reading:
                self._reading[position] = asyncio.create_task(self._shared(run_id, after=after, wait_s=left))
            reading = self._reading[position]
            # Unlike `await reading`, this does not cancel the shared read when one watcher leaves or stops waiting.
            await asyncio.wait([reading], timeout=left)
            if reading.done() and not reading.cancelled() and (events := reading.result()):
                return events
        return []

    async def _shared(self, run_id: str, *, after: EventId, wait_s: float) -> Entries:
        try:
            return await self._read(run_id, after=after, wait_s=wait_s)
        finally:
            del self._reading[run_id, after]

    async def _read(self, run_id: str, *, after: EventId, wait_s: float) -> Entries:
        key = stream_key(self._prefix, run_id)
        block = max(1, int(wait_s * 1000)) if wait_s else None
        try:
            # A frozen server does not even answer at the end of the wait.
            async with asyncio.timeout(wait_s + 2):
                answer: Any = await self._redis.xread({key: str(after)}, count=500, block=block)
        except (RedisError, OSError, TimeoutError):
            await asyncio.sleep(min(PAUSE_S, wait_s))
            return []
        return [_event(entry) for _key, entries in answer or () for entry in entries]

    async def newest(self, run_id: str) -> EventId:
        """Return the id of the last event; 0-0 if there is none, or while Redis is away."""
        try:
            async with asyncio.timeout(2):
                entries: Any = await self._redis.xrevrange(stream_key(self._prefix, run_id), count=1)
        except (RedisError, OSError, TimeoutError):
            return EventId(0, 0)
        return _event(entries[0])[0] if entries else EventId(0, 0)

    def leave(self) -> None:
        """End all reads, present and future, because this process is about to end."""
        self.leaving = True
        for reading in self._reading.values():
            reading.cancel()

    async def close(self) -> None:
        """Close every connection."""
        self.leave()
        await self._redis.aclose()


def _event(entry: tuple[str, dict[str, str]]) -> tuple[EventId, Event]:
    fence, _, n = entry[0].partition("-")
    return EventId(int(fence), int(n)), Event(entry[1]["type"], json.loads(entry[1]["data"]))
