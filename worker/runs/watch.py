"""Watch a run: its events come from its stream, and from the database if the stream is lost or has expired.

The first event and the last are made from the run's row, so Redis cannot lose them. In between, lost events are made
from the messages: `message.completed` replaces all deltas of its message.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from worker.domain import SERVICE, Event, EventId, Run, message_completed, terminal_event
from worker.domain.event import ERASED, QUEUED_ID, TERMINAL, queued, terminal_id
from worker.events.follow import Follower
from worker.store import Database, messages, runs

POLL_S = 2.0  # after this time without an event, read the row: the stream may be lost
LATE_S = 1.0  # the last events may be on their way when the row is terminal already
# An event that is made from a row follows the last event <fence>-<n> that the reader got from the stream. Its id is
# <fence>-<(n + 1) * FROM_ROWS + seq>: it names both positions, and stays valid when more events reach the stream.
FROM_ROWS = 1_000_000_000


async def watch(
    db: Database, follower: Follower, run: Run, *, after: EventId | None = None
) -> AsyncIterator[tuple[EventId, Event, Run] | None]:
    """Yield the events of *run* after *after*, up to its one terminal event, each with the run as it was last read.

    None is yielded after a while without an event. A reader that leaves early cancels nothing. It ends before the
    terminal event if this process is about to end, or the run was erased.
    """
    last_id = after or EventId(0, 0)
    if last_id < QUEUED_ID:
        yield QUEUED_ID, queued(run), run
        last_id = QUEUED_ID
    streamed, rows_through_seq = _split_id(last_id)
    seen = await _streamed_seqs(follower, run, streamed)
    while not (run.status.terminal and last_id >= terminal_id(run)):
        was_terminal, ended = run.status.terminal, False
        events = await follower.read(run.id, after=last_id, wait_s=LATE_S if was_terminal else POLL_S)
        for last_id, event in events:
            ended = event.type in TERMINAL or event.type == ERASED
            if not ended:
                streamed = last_id
                yield last_id, event, run
                seen.add(event.data.get("seq"))
        if events and not ended:
            continue
        if not events and follower.leaving:
            return  # the watcher reconnects to another process, after the last event
        if not events:
            yield None
        row = await asyncio.to_thread(_read_run, db, run.id)
        if row is None:
            return  # it was erased
        run = row
        if run.status.terminal and (ended or was_terminal):
            for id, event in await asyncio.to_thread(_missing_events, db, run, seen, streamed, rows_through_seq):
                yield id, event, run
            yield terminal_id(run), terminal_event(run.id, run.status, run.finish_reason), run
            return


def _split_id(last_id: EventId) -> tuple[EventId, int]:
    """Return the id and the seq through which a reader who resumes at *last_id* has seen the stream and the rows."""
    streamed, rows_through_seq = divmod(last_id.n, FROM_ROWS)
    return (EventId(last_id.fence, streamed - 1), rows_through_seq) if streamed else (last_id, 0)


async def _streamed_seqs(follower: Follower, run: Run, last_id: EventId) -> set[object]:
    """Return the seqs of the messages in the stream that a reader who resumes at *last_id* has seen."""
    seen: set[object] = set()
    at = QUEUED_ID
    while at < last_id and (events := await follower.read(run.id, after=at, wait_s=0)):
        seen.update(event.data.get("seq") for id, event in events if id <= last_id)
        at = events[-1][0]
    return seen


def _read_run(db: Database, run_id: str) -> Run | None:
    with db.read() as tx:
        return runs.get(tx, run_id, principal=SERVICE)


def _missing_events(
    db: Database, run: Run, seen: set[object], streamed: EventId, rows_through_seq: int
) -> list[tuple[EventId, Event]]:
    """Return events for the messages after *rows_through_seq* that are missing in the stream."""
    with db.read() as tx:
        written = messages.of_run_by_id(tx, run.id)
    made: list[tuple[EventId, Event]] = []
    counts: Counter[str | None] = Counter()
    for message in written:
        if message.seq > rows_through_seq and message.seq not in seen:
            id = EventId(streamed.fence, (streamed.n + 1) * FROM_ROWS + message.seq)
            made.append((id, message_completed(message, index=counts[message.delegation])))
        counts[message.delegation] += 1
    return made
