"""Send the events of all runs of this process to their streams, in order, without holding up any run.

A run's thread only puts its events in line; one thread sends them. Deltas wait 50 ms for more of their kind and leave
as one entry; everything else leaves at once, and takes along what stood before it. While Redis is away the line is
kept, within bounds: deltas go first, since `message.completed` carries the whole text.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import ResponseError as Refused

from worker.domain.event import MESSAGE_DELTA, Event, EventId
from worker.events import stream_key
from worker.events.erase import Eraser
from worker.observe import logs

BATCH_S = 0.05
PAUSE_S = 1.0  # a process whose publish failed leaves Redis alone for so long
LINE_LIMIT = 20_000  # entries kept while Redis is away
STREAM_LIMIT = 20_000  # entries of one run, about

Listener = Callable[[Event], None]

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    run_id: str
    id: EventId
    event: Event
    ttl_s: int | None = None  # how long the stream is kept after it; None: as the settings say
    tried: bool = False  # it may have arrived: sent again as it is, it is refused; joined with others it would double

    @property
    def is_delta(self) -> bool:
        return self.event.type == MESSAGE_DELTA.name


class Publisher:
    """The line, and the thread that sends it."""

    def __init__(self, url: str, *, prefix: str, ttl_s: int) -> None:
        self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        self._eraser = Eraser(url, prefix=prefix, ttl_s=ttl_s)
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._line: list[_Entry] = []
        self._changed = threading.Condition()
        self._urgent = False
        self._closing = False
        self._thread = threading.Thread(target=self._send_forever, name="events", daemon=True)
        self._thread.start()

    def open(self, *, run_id: str, fence: int, ttl_s: int | None = None, also: Listener | None = None) -> "RunStream":
        """Return the writing end of a run's stream for one claim of it; see `RunStream`."""
        return RunStream(self, run_id, fence, ttl_s=ttl_s, also=also)

    def put(self, entry: _Entry) -> None:
        """Put an entry in line."""
        with self._changed:
            self._line.append(entry)
            self._urgent |= not entry.is_delta
            self._changed.notify()

    def erase(self, run_ids: Iterable[str]) -> None:
        """Remove the streams of these runs."""
        self._eraser.erase(run_ids)

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Send what is in line and stop; give up after *timeout_s*."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        self._redis.close()
        self._eraser.close()

    def _send_forever(self) -> None:
        while (batch := self._next_batch()) is not None:
            merged = _merged(batch)
            try:
                self._send(merged)
            except RedisError:
                with self._changed:
                    self._line = _bounded([replace(entry, tried=True) for entry in merged] + self._line)
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, timeout=PAUSE_S)
            except Exception as error:  # noqa: BLE001 - one event that cannot be sent must not silence all runs
                log.error("events dropped", count=len(batch), error=error)

    def _next_batch(self) -> list[_Entry] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closing)
            if not self._urgent and not self._closing:
                self._changed.wait_for(lambda: self._urgent or self._closing, timeout=BATCH_S)
            batch, self._line, self._urgent = self._line, [], False
            return batch or None

    def _send(self, batch: list[_Entry]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for entry in batch:
            fields: dict[Any, Any] = {
                "type": entry.event.type,
                "data": json.dumps(entry.event.data, ensure_ascii=False),
            }
            key = stream_key(self._prefix, entry.run_id)
            pipeline.xadd(key, fields, id=str(entry.id), maxlen=STREAM_LIMIT, approximate=True)
        for run_id, ttl_s in {entry.run_id: entry.ttl_s for entry in batch}.items():
            pipeline.expire(stream_key(self._prefix, run_id), self._ttl_s if ttl_s is None else ttl_s)
        for answer in pipeline.execute(raise_on_error=False):
            # An id that is not above the last one is refused: it was sent before, or a later claim has written since.
            if isinstance(answer, RedisError) and not isinstance(answer, Refused):
                raise answer


class Listeners:
    """Events for those in this process who watch, and for Redis where there is one."""

    def __init__(self, publisher: Publisher | None) -> None:
        self._publisher = publisher
        self._queues: dict[str, SimpleQueue[Event]] = {}

    def listen(self, run_id: str) -> "SimpleQueue[Event]":
        """Return the queue that the run's events are put into from now on."""
        return self._queues.setdefault(run_id, SimpleQueue())

    def leave(self, run_id: str) -> None:
        """Listen no more."""
        self._queues.pop(run_id, None)

    def open(self, *, run_id: str, fence: int, ttl_s: int | None = None, also: Listener | None = None) -> "RunStream":
        """Return the writing end of a run's stream for one claim of it; see `RunStream`."""
        return RunStream(self, run_id, fence, ttl_s=ttl_s, also=also)

    def put(self, entry: _Entry) -> None:
        """Hand an entry to whoever wants it."""
        if (queue := self._queues.get(entry.run_id)) is not None:
            queue.put(entry.event)
        if self._publisher is not None:
            self._publisher.put(entry)

    def erase(self, run_ids: Iterable[str]) -> None:
        """Remove the streams of these runs."""
        if self._publisher is not None:
            self._publisher.erase(run_ids)

    def close(self) -> None:
        """Send what is in line."""
        if self._publisher is not None:
            self._publisher.close()


class RunStream:
    """The events of one claim of a run, numbered. Safe to use from several threads.

    *ttl_s* is how long the stream is kept after its last event, if its team says so. *also* hears each event but the
    terminal one, in their order, one at a time, on the run's own threads.
    """

    def __init__(
        self,
        publisher: Publisher | Listeners,
        run_id: str,
        fence: int,
        *,
        ttl_s: int | None,
        also: Listener | None,
    ) -> None:
        self._publisher = publisher
        self._run_id = run_id
        self._fence = fence
        self._ttl_s = ttl_s
        self._also = also
        self._n = 0
        self._lock = threading.Lock()

    def publish(self, event: Event) -> None:
        """Put an event in line."""
        with self._lock:
            self._n += 1
            self._publisher.put(_Entry(self._run_id, EventId(self._fence, self._n), event, self._ttl_s))
            if self._also is not None:
                self._also(event)

    def end(self, event: Event) -> None:
        """Put the one terminal event in line. Ending a run raised its fence: the event stands behind all others."""
        self._publisher.put(_Entry(self._run_id, EventId(self._fence + 1, 0), event, self._ttl_s))


def _merged(batch: list[_Entry]) -> list[_Entry]:
    """Join deltas of one message that stand side by side in their run; the joined entry has the last one's id."""
    kept: list[_Entry] = []
    newest: dict[str, int] = {}  # run id → place in `kept` of its newest entry
    for entry in batch:
        place = newest.get(entry.run_id)
        before = kept[place] if place is not None else None
        if place is not None and before is not None and _same_message(before, entry):
            delta = before.event.data["delta"] + entry.event.data["delta"]
            kept[place] = replace(entry, event=Event(entry.event.type, {**entry.event.data, "delta": delta}))
        else:
            newest[entry.run_id] = len(kept)
            kept.append(entry)
    return kept


def _same_message(a: _Entry, b: _Entry) -> bool:
    untried = not (a.tried or b.tried)
    same_claim = a.id.fence == b.id.fence  # this process may have lost the run, and claimed it again
    deltas = untried and same_claim and a.is_delta and b.is_delta
    return deltas and a.event.data["message_id"] == b.event.data["message_id"]


def _bounded(line: list[_Entry]) -> list[_Entry]:
    return line if len(line) <= LINE_LIMIT else [entry for entry in line if not entry.is_delta][-LINE_LIMIT:]
