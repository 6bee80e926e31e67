"""Sends the events of all runs of this process to their streams, in order, without delaying any run.

A run's thread only queues its events; one thread sends them. Deltas wait 50 ms for more deltas and are sent as one
entry; the first delta of a message, for which people wait, only 3 ms. Every other event is sent at once, with all
events before it. The thread is woken only if it has to send earlier than it would by itself: each time costs a switch.
While Redis is away the queue is kept, within a limit: deltas are dropped first, since `message.completed` carries the
whole text.
"""

import json
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import ResponseError as Refused

from worker import clock
from worker.domain import Event, EventId
from worker.domain.event import MESSAGE_DELTA
from worker.events import stream_key
from worker.events.connections import connect
from worker.events.erase import Eraser
from worker.observe import logs, metrics
from worker.observe.rare_log import RareLog

BATCH_S, FIRST_S = 0.05, 0.003
PAUSE_S = 1.0  # how long a process leaves Redis alone after a failed publish
QUEUE_LIMIT = 20_000  # entries kept while Redis is away
STREAM_LIMIT = 20_000  # entries of one run, approximately

_TEMPORARY = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")

Listener = Callable[[Event], None]

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    run_id: str
    id: EventId
    event: Event
    ttl_s: int | None = None  # lifetime of the stream after this entry; None: the setting
    is_first: bool = False  # the first delta of its message
    tried: bool = False  # it may have arrived: resent unchanged, Redis refuses it; merged, it would double

    @property
    def is_delta(self) -> bool:
        return self.event.type == MESSAGE_DELTA.name

    @property
    def wait_s(self) -> float:
        """How long it waits for others."""
        if not self.is_delta:
            return 0.0
        return FIRST_S if self.is_first else BATCH_S


class Publisher:
    """The queue of events, and the thread that sends them."""

    def __init__(self, url: str, *, prefix: str, ttl_s: int) -> None:
        self._redis = connect(url, timeout_s=2)
        self._refused = RareLog(partial(log.warning, "events refused by Redis"))
        self._eraser = Eraser(url, prefix=prefix, ttl_s=ttl_s)
        self._prefix = prefix
        self._ttl_s = ttl_s
        self._queue: list[_Entry] = []
        self._changed = threading.Condition()
        self._due_at = math.inf  # when the queue has to be sent
        self._closing = False
        self._thread = threading.Thread(target=self._send_forever, name="events", daemon=True)
        self._thread.start()

    def put(self, entry: _Entry) -> None:
        """Queue an entry."""
        with self._changed:
            self._queue.append(entry)
            due_at = clock.monotonic() + entry.wait_s
            if due_at < self._due_at:
                self._due_at = due_at
                self._changed.notify()

    def erase(self, run_ids: Iterable[str]) -> None:
        """Remove the streams of these runs."""
        self._eraser.erase(run_ids)

    def close(self, *, timeout_s: float = 3.0) -> None:
        """Send what is queued and stop, within *timeout_s*."""
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
                    self._queue = _bounded([replace(entry, tried=True) for entry in merged] + self._queue)
                    self._due_at = -math.inf  # after the pause
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, timeout=PAUSE_S)
            except Exception as error:  # noqa: BLE001 - one event that cannot be sent must not silence all runs
                log.error("events dropped", count=len(batch), error=error)

    def _next_batch(self) -> list[_Entry] | None:
        with self._changed:
            while not self._closing and (wait_s := self._due_at - clock.monotonic()) > 0:
                self._changed.wait(None if wait_s == math.inf else wait_s)
            batch, self._queue, self._due_at = self._queue, [], math.inf
            return batch or None

    def _send(self, batch: list[_Entry]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for entry in batch:
            data = json.dumps(entry.event.data, ensure_ascii=False)
            fields: dict[Any, Any] = {"type": entry.event.type, "data": data}
            key = stream_key(self._prefix, entry.run_id)
            pipeline.xadd(key, fields, id=str(entry.id), maxlen=STREAM_LIMIT, approximate=True)
        for run_id, ttl_s in {entry.run_id: entry.ttl_s for entry in batch}.items():
            pipeline.expire(stream_key(self._prefix, run_id), self._ttl_s if ttl_s is None else ttl_s)
        errors = [answer for answer in pipeline.execute(raise_on_error=False) if isinstance(answer, RedisError)]
        refusals = [error for error in errors if isinstance(error, Refused) and not _is_of_old_id(error)]
        for error in refusals:
            metrics.EVENTS_REFUSED.labels(type(error).__name__).inc()
            self._refused.note(error=error)
        for failure in errors:
            if not isinstance(failure, Refused) or _is_temporary(failure):
                raise failure  # all are sent again; Redis refuses those that it has, by their ids


class Listeners:
    """Passes events to watchers in this process, and to Redis if there is a publisher."""

    def __init__(self, publisher: Publisher | None) -> None:
        self._publisher = publisher
        self._listening: dict[str, Listener] = {}

    def listen(self, run_id: str, listener: Listener) -> None:
        """Call *listener* with each further event of the run."""
        self._listening[run_id] = listener

    def leave(self, run_id: str) -> None:
        """Stop listening."""
        self._listening.pop(run_id, None)

    def put(self, entry: _Entry) -> None:
        """Pass an entry on."""
        if (listener := self._listening.get(entry.run_id)) is not None:
            listener(entry.event)
        if self._publisher is not None:
            self._publisher.put(entry)

    def erase(self, run_ids: Iterable[str]) -> None:
        """Remove the streams of these runs."""
        if self._publisher is not None:
            self._publisher.erase(run_ids)

    def close(self) -> None:
        """Send what is queued."""
        if self._publisher is not None:
            self._publisher.close()


@dataclass(slots=True)
class RunStream:
    """The events of one claim of a run, numbered. Safe to use from several threads.

    *ttl_s*: the team's lifetime of a stream after its last event. *also* is called with each event but the terminal
    one, in order, one at a time, on the run's own threads.
    """

    publisher: Publisher | Listeners
    run_id: str
    fence: int
    ttl_s: int | None = None
    also: Listener | None = None
    _n: int = 0
    _begun: set[str] = field(default_factory=set)  # ids of messages with a delta
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, event: Event) -> None:
        """Queue an event."""
        with self._lock:
            self._n += 1
            is_first = event.type == MESSAGE_DELTA.name and event.data["message_id"] not in self._begun
            if is_first:
                self._begun.add(event.data["message_id"])
            self.publisher.put(_Entry(self.run_id, EventId(self.fence, self._n), event, self.ttl_s, is_first))
            if self.also is not None:
                self.also(event)

    def pause(self, event: Event) -> None:
        """Queue the event of a pause. Pausing a run raised its fence, so the event follows all others of this claim."""
        self.publisher.put(_Entry(self.run_id, EventId(self.fence + 1, 1), event, self.ttl_s))

    def end(self, event: Event) -> None:
        """Queue the terminal event. Ending a run raised its fence, so the event follows all others."""
        self.publisher.put(_Entry(self.run_id, EventId(self.fence + 1, 0), event, self.ttl_s))


def _is_of_old_id(error: Refused) -> bool:
    """Tell whether Redis has the entry, or one with a higher id: it was sent before, or a later claim has written.

    A stream that was erased has the highest id there is.
    """
    return any(text in str(error) for text in ("equal or smaller than", "exhausted the last possible ID"))


def _is_temporary(error: Refused) -> bool:
    """Tell whether Redis refuses all writes for now: it is full, a replica, or cannot save its data."""
    return isinstance(error, (ReadOnlyError, OutOfMemoryError)) or str(error).startswith(_TEMPORARY)


def _merged(batch: list[_Entry]) -> list[_Entry]:
    """Merge adjacent deltas of one message; the merged entry has the id of the last one."""
    kept: list[_Entry] = []
    newest: dict[str, int] = {}  # run id → index in `kept` of its newest entry
    for entry in batch:
        index = newest.get(entry.run_id)
        before = kept[index] if index is not None else None
        if index is not None and before is not None and _same_message(before, entry):
            delta = before.event.data["delta"] + entry.event.data["delta"]
            kept[index] = replace(entry, event=Event(entry.event.type, {**entry.event.data, "delta": delta}))
        else:
            newest[entry.run_id] = len(kept)
            kept.append(entry)
    return kept


def _same_message(a: _Entry, b: _Entry) -> bool:
    untried = not (a.tried or b.tried)
    same_claim = a.id.fence == b.id.fence  # this process may have lost the run, and claimed it again
    deltas = untried and same_claim and a.is_delta and b.is_delta
    return deltas and a.event.data["message_id"] == b.event.data["message_id"]


def _bounded(entries: list[_Entry]) -> list[_Entry]:
    return entries if len(entries) <= QUEUE_LIMIT else [entry for entry in entries if not entry.is_delta][-QUEUE_LIMIT:]
