"""While a run is watched and has no events: why. Each reason is shown once, and a terminal counts the seconds.

A thread asks the API, with a client of its own, so that the stream of events is not delayed.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from api_stub.client import Client, ClientError, Event, Retries
from worker import clock

SILENT_S = 5.0  # without an event for this long, the reason is shown
TICK_S = 1.0
ENDED = ("finished", None)  # the event that says so is on its way


@contextmanager
def explained(
    events: Iterable[Event],
    run_id: str,
    *,
    user_id: str | None,
    explain: Callable[[str], None],
    count: Callable[[float], None] = lambda _: None,
) -> Iterator[Iterator[Event]]:
    """Yield the *events* of a run. While they are awaited, a thread calls *explain* and *count*.

    *explain* gets a sentence after SILENT_S without an event, and again when the reason has changed. *count* gets the
    seconds without an event, once a second.
    """
    silence = _Silence(run_id, user_id, explain, count)
    threading.Thread(target=silence.watch, name="silence", daemon=True).start()
    try:
        yield silence.ended_by(events)
    finally:
        silence.close()


class _Silence:
    def __init__(
        self, run_id: str, user_id: str | None, explain: Callable[[str], None], count: Callable[[float], None]
    ) -> None:
        self._run_id = run_id
        self._user_id = user_id
        self._explain = explain
        self._count = count
        self._reason: tuple[str, object] | None = None  # the last one that was shown
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._last = clock.monotonic()
        self._due = self._last + SILENT_S

    def ended_by(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield *events*; each ends the silence before it."""
        for event in events:
            self._last = clock.monotonic()
            self._due = self._last + SILENT_S + _wait_s(event)
            yield event

    def watch(self) -> None:
        """Explain and count until `close`."""
        while not self._closed.wait(TICK_S):
            last, now = self._last, clock.monotonic()
            if now >= self._due:
                self._due = now + SILENT_S
                self._ask(last)
            with self._lock:
                if not self._closed.is_set():
                    self._count(clock.monotonic() - self._last)

    def close(self) -> None:
        """Show nothing any more; an answer that is still awaited is dropped."""
        with self._lock:
            self._closed.set()

    def _ask(self, last: float) -> None:
        """Explain the silence since *last*, if it is not over and the reason is new."""
        with suppress(ClientError), Client(retries=Retries(count=0)) as client:
            answer = client.why(self._run_id, user_id=self._user_id)
            reason = (answer["reason"], answer.get("behind_reason"))  # of a run behind another: the other's too
            with self._lock:
                if self._last == last and reason not in (self._reason, ENDED) and not self._closed.is_set():
                    self._reason = reason
                    self._explain(f"{answer['status']}: {answer['detail']}")


def _wait_s(event: Event) -> float:
    """Return how long a run pauses after *event*, which says so: that silence needs no other explanation."""
    if event.type != "run.requeued":
        return 0.0
    until = datetime.fromisoformat(event.data["not_before"])
    return max(0.0, (until - clock.now()).total_seconds())
