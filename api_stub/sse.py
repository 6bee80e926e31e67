"""A run's events as text/event-stream: from the stream while it lasts, from the row where it does not.

The first event and the last are made from the row, so that they are there whatever became of Redis. In between, what
the stream has lost is made good from the messages: `message.completed` replaces all deltas of its message.
"""

import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from api_stub import schemas
from api_stub.service import Service
from worker.domain.event import QUEUED_ID, TERMINAL, Event, EventId, queued, terminal_id
from worker.domain.message import Message
from worker.domain.run import Run
from worker.runs.enqueue import SERVICE
from worker.runs.journal import completed
from worker.store import messages, runs

LOOK_S = 2.0  # without an event for so long, look at the row: the stream may have been lost
LATE_S = 1.0  # the last events may be on their way when the row is terminal already
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
FROM_ROWS = 1_000_000_000  # numbers of events that were made from rows: <fence>-<this + seq>


async def follow(rooms: Service, run: Run, *, after: EventId | None) -> AsyncIterator[str]:
    """Yield the events of *run* behind *after*, up to its one terminal event. Leaving early cancels nothing."""
    place = after or EventId(0, 0)
    if place < QUEUED_ID:
        yield _spelled(QUEUED_ID, queued(run))
        place = QUEUED_ID
    shown = await _shown(rooms, run, place)
    told_to = place.n - FROM_ROWS  # a reader that resumes behind an event from a row was told all rows up to it
    while not _is_over(run, place):
        was_terminal, ended = run.status.terminal, False
        events = await rooms.follower.read(run.id, after=place, wait_s=LATE_S if was_terminal else LOOK_S)
        for place, event in events:
            ended = event.type in TERMINAL
            if not ended:
                yield _spelled(place, event)
                shown.add(event.data.get("seq"))
        if events and not ended:
            continue
        if not events:
            yield ": still here\n\n"
        found = await _look(rooms, run.id)
        if found is None:
            return  # it was erased
        run = found
        if run.status.terminal and (ended or was_terminal):
            for id, event in await _lost(rooms, run, shown, told_to=told_to):
                yield _spelled(id, event)
            end = Event(f"run.{run.status}", schemas.Run.of(run).model_dump(mode="json"))
            yield _spelled(terminal_id(run), end)
            return


def _is_over(run: Run, place: EventId) -> bool:
    return run.status.terminal and place >= terminal_id(run)


async def _look(rooms: Service, run_id: str) -> Run | None:
    def read() -> Run | None:
        with rooms.db.read() as tx:
            return runs.get(tx, run_id, principal=SERVICE)

    return await run_in_threadpool(read)


async def _shown(rooms: Service, run: Run, place: EventId) -> set[object]:
    """Return the seqs of the messages in the stream that a reader who resumes at *place* has been shown."""
    shown: set[object] = set()
    at = QUEUED_ID
    while at < place and (events := await rooms.follower.read(run.id, after=at, wait_s=0)):
        shown.update(event.data.get("seq") for id, event in events if id <= place)
        at = events[-1][0]
    return shown


async def _lost(rooms: Service, run: Run, shown: set[object], *, told_to: int) -> list[tuple[EventId, Event]]:
    """Return the run's messages behind seq *told_to* that the stream, which has a gap or ended early, has not shown."""

    def read() -> list[Message]:
        with rooms.db.read() as tx:
            return messages.of_run_by_id(tx, run.id)

    return [
        (EventId(run.fence - 1, FROM_ROWS + m.seq), Event("message.completed", completed(m, message_id=f"seq-{m.seq}")))
        for m in await run_in_threadpool(read)
        if m.seq > told_to and m.seq not in shown
    ]


def _spelled(id: EventId, event: Event) -> str:
    # Many clients end a line where Python's splitlines does: at these three too, which JSON need not escape.
    data = json.dumps(event.data, ensure_ascii=False).translate(_LINE_ENDS)
    return f"id: {id}\nevent: {event.type}\ndata: {data}\n\n"
