"""Watch a run: its events come from its stream, and from the database if the stream is lost or has expired.

The first event and the last are made from the run's row, so Redis cannot lose them. Messages are shown in the order of
`seq`, each once: one that the stream lacks is made from its row, before the next message or the end is shown.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing

from worker.domain import SERVICE, Event, EventId, Run, Status, message_completed, terminal_event
from worker.domain.event import (
    ERASED,
    FIRST_MESSAGE,
    MESSAGE_COMPLETED,
    MESSAGE_DELTA,
    MESSAGE_RESTARTED,
    QUEUED_ID,
    RUN_PAUSED,
    TERMINAL,
    pause_id,
    queued,
    terminal_id,
)
from worker.events.follow import Follower
from worker.runs.unfinished import UnfinishedRuns
from worker.store import Database, messages, pending_calls, runs

POLL_S = 2.0  # after this time without an event, ask whether the run has ended: the stream may be lost
LATE_S = 1.0  # the last events may be on their way when the row is terminal already
# The id of an event that is made from a row is <fence>-<(n + 1) * FROM_ROWS + seq>, where <fence>-<n> is the entry of
# the stream before it: it names both positions, and stays valid when more entries reach the stream. Events of the
# stream that follow under the same fence have such ids too, so that ids only grow.
FROM_ROWS = 1_000_000_000


async def watch(
    db: Database, follower: Follower, unfinished: UnfinishedRuns, run: Run, *, after: EventId | None = None
) -> AsyncGenerator[tuple[EventId, Event, Run] | None]:
    """Yield the events of *run* after *after*, up to its one terminal event, each with the run as it was last read.

    None is yielded after a while without an event. A reader that leaves early cancels nothing. It ends before the
    terminal event if this process is about to end, or the run was erased.

    Raises:
        DatabaseUnavailable: the reader can resume after its last event.
    """
    if after is None or after < QUEUED_ID:
        yield QUEUED_ID, queued(run), run
        after = QUEUED_ID
    if run.status.terminal and after >= terminal_id(run):
        return
    position = await _position(follower, run, after)
    read_through = position.streamed
    while True:
        was_terminal, ended = run.status.terminal, False
        events = await follower.read(run.id, after=read_through, wait_s=LATE_S if was_terminal else POLL_S)
        for read_through, event in events:
            ended = event.type in TERMINAL or event.type == ERASED
            if ended or position.has_shown(read_through, event):
                continue
            if position.lacks_messages_before(event):
                for seq, missing in await asyncio.to_thread(_messages, db, run, position.seq, event.data["seq"]):
                    yield position.of_row(seq), missing, run
            yield position.of_entry(read_through, event), event, run
        if events and not ended:
            continue
        if not events and follower.leaving:
            return  # the watcher reconnects to another process, after the last event
        if not events:
            yield None
            if not was_terminal and await unfinished.has(run.id, paused_at=position.paused_at):
                continue
        row = await asyncio.to_thread(_read_run, db, run.id)
        if row is None:
            return  # it was erased
        run = row
        if run.status is Status.PAUSED and position.paused_at != run.fence:
            for seq, missing in await asyncio.to_thread(_messages, db, run, position.seq, None):
                yield position.of_row(seq), missing, run
            yield position.of_pause(pause_id(run)), _paused(run), run
        if run.status.terminal and (ended or was_terminal):
            for seq, missing in await asyncio.to_thread(_messages, db, run, position.seq, None):
                yield position.of_row(seq), missing, run
            yield terminal_id(run), terminal_event(run.id, run.status, run.finish_reason), run
            return


class _Position:
    """How far a reader has been shown a run: its stream, and its messages by seq. It makes the ids of events."""

    def __init__(self, streamed: EventId, *, seq: int, streamed_seq: int, marked: bool) -> None:
        self.streamed = streamed  # the last entry that was shown
        self.seq = seq  # of the last message that was shown; 0: none
        self._streamed_seq = streamed_seq  # of the last message that the stream has had until there
        self._marked_fence = streamed.fence if marked else None  # under this fence, ids name both positions
        self.paused_at = streamed.fence if streamed.n == 1 else None  # the fence of the last pause that was shown

    def has_shown(self, id: EventId, event: Event) -> bool:
        """Tell whether the reader has been shown the message or the pause of *event*, or a later one."""
        if event.type == RUN_PAUSED.name:
            return id.fence == self.paused_at
        if event.type == MESSAGE_COMPLETED.name:
            self._streamed_seq = max(self._streamed_seq, event.data["seq"])
            return bool(event.data["seq"] <= self.seq)
        # Text of a message that was shown whole, from its row, must not be appended to it.
        return event.type in (MESSAGE_DELTA.name, MESSAGE_RESTARTED.name) and self._streamed_seq < self.seq

    def lacks_messages_before(self, event: Event) -> bool:
        """Tell whether messages of the run are missing between what was shown and *event*."""
        if event.type != MESSAGE_COMPLETED.name:
            return False
        is_next = event.data["seq"] == self.seq + 1 if self.seq else event.data["message_id"] == FIRST_MESSAGE
        return not is_next

    def of_entry(self, id: EventId, event: Event) -> EventId:
        """Return the id under which an entry of the stream is shown."""
        if event.type == MESSAGE_COMPLETED.name:
            self.seq = event.data["seq"]
        if event.type == RUN_PAUSED.name:
            return self.of_pause(id)
        self.streamed = id
        return self._marked() if id.fence == self._marked_fence else id

    def of_pause(self, id: EventId) -> EventId:
        """Return the id under which a pause is shown: it has a fence of its own, from the stream or from the row."""
        self.streamed, self.paused_at = id, id.fence
        return id

    def of_row(self, seq: int) -> EventId:
        """Return the id under which a message is shown that the stream lacks."""
        self.seq = seq
        self._marked_fence = self.streamed.fence
        return self._marked()

    def _marked(self) -> EventId:
        return EventId(self.streamed.fence, (self.streamed.n + 1) * FROM_ROWS + self.seq)


async def _position(follower: Follower, run: Run, after: EventId) -> _Position:
    """Return the position of a reader who resumes after the event *after*."""
    n, seq = divmod(after.n, FROM_ROWS)
    marked = n > 0
    streamed = EventId(after.fence, n - 1) if marked else after
    streamed_seq = 0
    if streamed > QUEUED_ID:
        async with aclosing(follower.back(run.id, until=streamed)) as pages:
            async for page in pages:
                streamed_seq = max((e.data["seq"] for _, e in page if e.type == MESSAGE_COMPLETED.name), default=0)
                if streamed_seq:
                    break  # messages enter a stream in the order of seq
    return _Position(streamed, seq=max(streamed_seq, seq if marked else 0), streamed_seq=streamed_seq, marked=marked)


def _read_run(db: Database, run_id: str) -> Run | None:
    with db.read() as tx:
        run = runs.get(tx, run_id, principal=SERVICE)
        return None if run is None else pending_calls.attached(tx, [run])[0]


def _paused(run: Run) -> Event:
    return RUN_PAUSED(run_id=run.id, pending=[call.id for call in run.pending])


def _messages(db: Database, run: Run, after_seq: int, before_seq: int | None) -> list[tuple[int, Event]]:
    """Return the events of the run's messages between two seqs, from their rows."""
    with db.read() as tx:
        written = messages.of_run_by_id(tx, run.id)
    made: list[tuple[int, Event]] = []
    counts: Counter[str | None] = Counter()
    for message in written:
        if message.seq > after_seq and (before_seq is None or message.seq < before_seq):
            made.append((message.seq, message_completed(message, index=counts[message.delegation])))
        counts[message.delegation] += 1
    return made
