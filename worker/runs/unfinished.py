"""Tell watchers whether their runs have ended, with one statement for all who ask at about the same time.

A watcher asks every two seconds that its stream is silent. Thousands of watchers must not mean thousands of reads.
"""

import asyncio

from worker.store import Database, runs

GATHER_S = 0.2  # questions of this time are answered by one statement
AT_ONCE = 500  # runs in one statement


class UnfinishedRuns:
    """The open questions of one process. It belongs to one event loop."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._asked: set[str] = set()
        self._answer: asyncio.Task[set[str]] | None = None

    async def has(self, run_id: str) -> bool:
        """Tell whether the run is queued or running. False: it has ended, or it was erased.

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
        return run_id in answer.result()

    async def _read(self, asked: set[str]) -> set[str]:
        await asyncio.sleep(GATHER_S)
        self._answer = None
        return await asyncio.to_thread(self._read_rows, sorted(asked))

    def _read_rows(self, run_ids: list[str]) -> set[str]:
        unfinished: set[str] = set()
        with self._db.read() as tx:
            for first in range(0, len(run_ids), AT_ONCE):
                unfinished |= runs.unfinished_of(tx, run_ids[first : first + AT_ONCE])
        return unfinished


def _retrieve(answer: "asyncio.Task[set[str]]") -> None:
    """Take note of an error, also if every watcher who asked has left."""
    if not answer.cancelled():
        answer.exception()
