"""Turns at a session: how many requests may wait for one row at the same time.

A request that writes takes the lock of its session's row, on a thread. If a transaction elsewhere holds the row, each
request for it would keep a thread for seconds, until none is left for the requests of other sessions. So only a few of
them get threads; the others wait without one, and are refused if that takes too long.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from worker.errors import SessionLocked
from worker.observe import logs
from worker.observe.rare_log import RareLog

AT_ONCE = 3  # they take turns at the row anyway
WAITING = 100  # further requests are refused at once
WAIT_S = 5.0  # as long as a statement waits for a lock

log = logs.get(__name__)


@dataclass(slots=True)
class _Row:
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    requests: int = 0


class Turns:
    """The requests of one process that wait for sessions. It belongs to one event loop."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, ...], _Row] = {}
        self._refused = RareLog(partial(log.warning, "requests for a locked session refused"))

    @asynccontextmanager
    async def at(self, *row: str) -> AsyncIterator[None]:
        """Take one of the turns at what *row* names for the block.

        Raises:
            SessionLocked: too many requests wait for it, or none of them ended in time.
        """
        waiting = self._rows.setdefault(row, _Row())
        waiting.requests += 1
        try:
            if waiting.requests > AT_ONCE + WAITING:
                raise SessionLocked()
            try:
                async with asyncio.timeout(WAIT_S):
                    await waiting.turns.acquire()
            except TimeoutError:
                raise SessionLocked() from None
            try:
                yield
            finally:
                waiting.turns.release()
        except SessionLocked:
            self._refused.note(waiting=waiting.requests)
            raise
        finally:
            waiting.requests -= 1
            if not waiting.requests:
                del self._rows[row]
