"""Watch a run: from its stream while that lasts, from its row where it does not.

The first event and the last are made from the row, so that they are there whatever became of Redis. In between, what
the stream has lost is made good from the messages: `message.completed` replaces all deltas of its message.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from worker.domain.event import (
    ERASED,
    QUEUED_ID,
    TERMINAL,
    Event,
    EventId,
    message_completed,
    queued,
    terminal_event,
    terminal_id,
)
from worker.domain.principal import SERVICE
from worker.domain.run import Run
from worker.events.follow import Follower
from worker.store import messages, runs
from worker.store.engine import Database

LOOK_S = 2.0  # without an event for so long, look at the row: the stream may have been lost
LATE_S = 1.0  # the last events may be on their way when the row is terminal already
# An event that was made from a row follows the last one that its reader was shown of the stream, <fence>-<n>, as
# <fence>-<(n + 1) * FROM_ROWS + seq>: so its id says both, whatever reaches the stream later.
FROM_ROWS = 1_000_000_000


async def watch(
    db: Database, follower: Follower, run: Run, *, after: EventId | None = None
) -> AsyncIterator[tuple[EventId, Event, Run] | None]:
    """Yield the events of *run* behind *after*, up to its one terminal event, each with the run as it was last read.

    None says that nothing has happened for a while. Leaving early cancels nothing; it ends early itself where this
    process is about to end.
    """
    place = after or EventId(0, 0)
    if place < QUEUED_ID:
        yield QUEUED_ID, queued(run), run
        place = QUEUED_ID
    streamed, told_to = _places(place)
    shown = await _shown(follower, run, streamed)
    while not (run.status.terminal and place >= terminal_id(run)):
        was_terminal, ended = run.status.terminal, False
        events = await follower.read(run.id, after=place, wait_s=LATE_S if was_terminal else LOOK_S)
        for place, event in events:
            ended = event.type in TERMINAL or event.type == ERASED
            if not ended:
                streamed = place
                yield place, event, run
                shown.add(event.data.get("seq"))
        if events and not ended:
            continue
        if not events and follower.leaving:
            return  # whoever watches comes back behind the last event, to another process
        if not events:
            yield None
        found = await asyncio.to_thread(_look, db, run.id)
        if found is None:
            return  # it was erased
        run = found
        if run.status.terminal and (ended or was_terminal):
            for id, event in await asyncio.to_thread(_lost, db, run, shown, streamed, told_to):
                yield id, event, run
            yield terminal_id(run), terminal_event(run.id, run.status), run
            return


def _places(place: EventId) -> tuple[EventId, int]:
    """Return up to where a reader who resumes at *place* was shown the stream, and up to which seq it was told rows."""
    streamed, told_to = divmod(place.n, FROM_ROWS)
    return (EventId(place.fence, streamed - 1), told_to) if streamed else (place, 0)


async def _shown(follower: Follower, run: Run, place: EventId) -> set[object]:
    """Return the seqs of the messages in the stream that a reader who resumes at *place* has been shown."""
    shown: set[object] = set()
    at = QUEUED_ID
    while at < place and (events := await follower.read(run.id, after=at, wait_s=0)):
        shown.update(event.data.get("seq") for id, event in events if id <= place)
        at = events[-1][0]
    return shown


def _look(db: Database, run_id: str) -> Run | None:
    with db.read() as tx:
        return runs.get(tx, run_id, principal=SERVICE)


def _lost(db: Database, run: Run, shown: set[object], streamed: EventId, told_to: int) -> list[tuple[EventId, Event]]:
    """Return the run's messages behind seq *told_to* that the stream, which has a gap or ended early, has not shown."""
    with db.read() as tx:
        written = messages.of_run_by_id(tx, run.id)
    made: list[tuple[EventId, Event]] = []
    places: Counter[str | None] = Counter()
    for message in written:
        if message.seq > told_to and message.seq not in shown:
            id = EventId(streamed.fence, (streamed.n + 1) * FROM_ROWS + message.seq)
            made.append((id, message_completed(message, index=places[message.delegation])))
        places[message.delegation] += 1
    return made
