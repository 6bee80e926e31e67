"""Watch a run: from its stream while that lasts, from its row where it does not.

The first event and the last are made from the row, so that they are there whatever became of Redis. In between, what
the stream has lost is made good from the messages: `message.completed` replaces all deltas of its message.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from worker.domain.event import ERASED, QUEUED_ID, TERMINAL, Event, EventId, queued, terminal_id
from worker.domain.principal import SERVICE
from worker.domain.run import Run
from worker.events.follow import Follower
from worker.runs.journal import completed
from worker.store import messages, runs
from worker.store.engine import Database

LOOK_S = 2.0  # without an event for so long, look at the row: the stream may have been lost
LATE_S = 1.0  # the last events may be on their way when the row is terminal already
FROM_ROWS = 1_000_000_000  # numbers of events that were made from rows: <fence>-<this + seq>


async def watch(
    db: Database, follower: Follower, run: Run, *, after: EventId | None = None
) -> AsyncIterator[tuple[EventId, Event, Run] | None]:
    """Yield the events of *run* behind *after*, up to its one terminal event, each with the run as it was last read.

    None says that nothing has happened for a while. Leaving early cancels nothing.
    """
    place = after or EventId(0, 0)
    if place < QUEUED_ID:
        yield QUEUED_ID, queued(run), run
        place = QUEUED_ID
    shown = await _shown(follower, run, place)
    told_to = place.n - FROM_ROWS  # a reader that resumes behind an event from a row was told all rows up to it
    while not (run.status.terminal and place >= terminal_id(run)):
        was_terminal, ended = run.status.terminal, False
        events = await follower.read(run.id, after=place, wait_s=LATE_S if was_terminal else LOOK_S)
        for place, event in events:
            ended = event.type in TERMINAL or event.type == ERASED
            if not ended:
                yield place, event, run
                shown.add(event.data.get("seq"))
        if events and not ended:
            continue
        if not events:
            yield None
        found = await asyncio.to_thread(_look, db, run.id)
        if found is None:
            return  # it was erased
        run = found
        if run.status.terminal and (ended or was_terminal):
            for id, event in await asyncio.to_thread(_lost, db, run, shown, told_to):
                yield id, event, run
            yield terminal_id(run), Event(f"run.{run.status}", {"run_id": run.id, "status": run.status}), run
            return


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


def _lost(db: Database, run: Run, shown: set[object], told_to: int) -> list[tuple[EventId, Event]]:
    """Return the run's messages behind seq *told_to* that the stream, which has a gap or ended early, has not shown."""
    with db.read() as tx:
        written = messages.of_run_by_id(tx, run.id)
    made: list[tuple[EventId, Event]] = []
    places: Counter[str | None] = Counter()
    for message in written:
        if message.seq > told_to and message.seq not in shown:
            data = completed(message, place=places[message.delegation])
            made.append((EventId(run.fence - 1, FROM_ROWS + message.seq), Event("message.completed", data)))
        places[message.delegation] += 1
    return made
