"""Tell watchers whether their runs have ended, with one statement for all who ask at about the same time.

A watcher asks every two seconds that its stream is silent. Thousands of watchers must not mean thousands of reads.
"""

import asyncio

from worker.store import Database, run_state

GATHER_S = 0.2  # questions of this time are answered by one statement
AT_ONCE = 500  # runs in one statement
ENDED = -1  # the fence of no run


class UnfinishedRuns:
    """The open questions of one process. It belongs to one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._asked: set[str] = set()
        self._answer: asyncio.Task[dict[str, int | None]] | None = None

    async def has(self, run_id: str, *, paused_at: int | None) -> bool:
        """Tell whether the run has not ended, and is not in another pause than the one with the fence *paused_at*.

        False: it has ended, was erased, or was paused.

        Raises:
            DatabaseUnavailable
        """
        if self._answer is None:
            self._asked = set()
            self._answer = asyncio.create_task(self._read(self._asked))
            self._answer.add_done_callback(_retrieve)
        answer = self._answer
        self._asked.add(run_id)
        await asyncio.wait([answer])  # unlike `await answer`, this does not end it when one watcher leaves
        fence = answer.result().get(run_id, ENDED)
        return fence is None or fence == paused_at

    async def _read(self, asked: set[str]) -> dict[str, int | None]:
        await asyncio.sleep(GATHER_S)
        self._answer = None
        return await asyncio.to_thread(self._read_rows, sorted(asked))

    def _read_rows(self, run_ids: list[str]) -> dict[str, int | None]:
        unfinished: dict[str, int | None] = {}
        with self._db.read() as tx:
            for first in range(0, len(run_ids), AT_ONCE):
                unfinished |= run_state.unfinished_of(tx, run_ids[first : first + AT_ONCE])
        return unfinished


def _retrieve(answer: "asyncio.Task[dict[str, int | None]]") -> None:
    """Take note of an error, also if every watcher who asked has left."""
    if not answer.cancelled():
        answer.exception()
