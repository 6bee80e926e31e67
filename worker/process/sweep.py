"""Send the runs that were not sent, or whose delivery was lost. Every worker does this; several at once do no harm.

Not sent yet: a run whose lease was ended (`process.liveness`) or ran out (not just after an outage of the database:
`process.contact`), and a queued run whose time has come. Lost: a run that was sent, while its queue has been empty for
two seconds, or while a run sent to the same queue five seconds later was already claimed.
Queues are first in, first out, so a backlog of 100,000 is not mistaken for a loss, and costs no statement per run.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from worker import clock
from worker.domain import Claim
from worker.domain.dispatch import queue_of
from worker.observe import logs, metrics
from worker.process.contact import Contact
from worker.queue.dispatch import Dispatcher, NoDispatcher
from worker.store import Database, dispatchable
from worker.store.columns import db_now
from worker.ticker import Ticker

EVERY_S = 1.0
EMPTY_S = 2.0
OVERTAKEN_S = 5.0
BATCH = 500

log = logs.get(__name__)


class Sweep:
    """The repair pass of one process."""

    def __init__(
        self,
        db: Database,
        dispatcher: Dispatcher | NoDispatcher,
        contact: Contact,
        *,
        extra_steps: list[Callable[[], object]],
    ) -> None:
        self._db = db
        self._dispatcher = dispatcher
        self._contact = contact
        self.extra_steps = extra_steps  # run after each sweep
        self._empty_since: dict[str, float] = {}
        self._newest_claimed: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self._ticker: Ticker | None = None

    def start(self) -> None:
        """Sweep every second, on its own thread, until `close`."""
        self._contact.begin()
        self._ticker = Ticker("sweep", EVERY_S, self._tick, failure="sweep failed; the next one tries again")

    def now(self) -> None:
        """Sweep at once, on the thread, if it runs."""
        if self._ticker is not None:
            self._ticker.now()

    def close(self) -> None:
        """Stop the thread."""
        if self._ticker is not None:
            self._ticker.close()

    def note_claim(self, claim: Claim, *, sent_at: datetime) -> None:
        """Note that a delivery sent at *sent_at* arrived: what was sent to its queue long before that is lost.

        *sent_at* is the delivery's own time. The row of a run that was sent again has a later one.
        """
        queue = queue_of(attempt=claim.attempt - 1, priority=claim.priority)
        with self._lock:
            self._newest_claimed[queue] = max(self._newest_claimed.get(queue, sent_at), sent_at)

    def once(self) -> int:
        """Sweep once and return how many runs were sent. Do nothing while the broker is away: nothing could be sent."""
        depths = self._dispatcher.depths()
        if depths is None:
            self._empty_since.clear()
            return 0
        with self._contact.observed(), self._db.write() as tx:
            ended_only = not self._contact.is_old()
            expired = dispatchable.take_expired(tx, ended_only=ended_only, limit=BATCH)
            due = dispatchable.take_due(tx, limit=BATCH)
            lost = []
            for queue, depth in depths.items():
                sent_before = self._lost_before(queue, depth, now=db_now(tx))
                if sent_before is None:
                    continue
                lost += dispatchable.take_lost(tx, resumed=queue == "resumed", before=sent_before, limit=BATCH)
                if queue == "resumed":
                    lost += dispatchable.take_lost_expired(tx, ended_only=ended_only, before=sent_before, limit=BATCH)
        for kind, heads in (("lease_expired", expired), ("time_come", due), ("dispatch_lost", lost)):
            metrics.REPAIRS.labels(kind).inc(len(heads))
            self._dispatcher.send(heads)
        return len(expired) + len(due) + len(lost)

    def _lost_before(self, queue: str, depth: int, *, now: datetime) -> datetime | None:
        """Return the time before which unclaimed dispatches to *queue* are lost; None: none is lost."""
        bounds = []
        if depth:
            self._empty_since.pop(queue, None)
        else:
            empty_s = clock.monotonic() - self._empty_since.setdefault(queue, clock.monotonic())
            if empty_s >= EMPTY_S:
                bounds.append(now - timedelta(seconds=EMPTY_S))
        with self._lock:
            newest = self._newest_claimed.get(queue)
        if newest is not None:
            bounds.append(newest - timedelta(seconds=OVERTAKEN_S))
        return max(bounds, default=None)

    def _tick(self) -> None:
        outcome = "failed"
        self._contact.pulse()
        try:
            if count := self.once():
                log.info("sweep sent runs again", count=count)
            for step in self.extra_steps:
                step()
            outcome = "done"
        finally:
            metrics.SWEEPS.labels(outcome).inc()
