"""Keep the leases of what this process is at, runs and refreshes of summaries, and learn which of it shall stop.

One thread. Every half second it asks, in one statement a kind, which were asked to stop or were taken over; every third
of a lease it renews them all with one more. A deadline is kept here too: it ends a model call that has sent nothing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker import clock
from worker.domain.lease import LeaseState
from worker.domain.stop import Reason, Stop
from worker.observe import logs
from worker.store import leases
from worker.store.engine import Database, Transaction

TICK_S = 0.5

log = logs.get(__name__)


class Leases(Protocol):
    """The rows of one kind of thing that can be leased: `store.leases` for runs, `store.summary_jobs`."""

    def renew(self, tx: Transaction, keys: Any, /, *, owner: str, ttl_s: float) -> None:
        """Keep the leases of these rows; rows that somebody holds are skipped."""

    def watch(self, tx: Transaction, keys: Any, /) -> list[LeaseState[Any]]:
        """Return how these rows stand. Reads; waits for nobody."""


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: Leases
    key: str | int
    fence: int
    deadline: float  # on clock.monotonic
    stop: Stop = field(default_factory=Stop)


class Keeper:
    """The leases of one process. `owner` names it in the rows."""

    def __init__(self, db: Database, *, owner: str, ttl_s: float) -> None:
        self._db = db.dedicated()
        self._owner = owner
        self._ttl_s = ttl_s
        self._kept: dict[str | int, _Kept] = {}  # ids of runs are text, keys of sessions numbers
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._handing_over = False
        self._renewed_at = clock.monotonic()
        self._thread = threading.Thread(target=self._keep_forever, name="keeper", daemon=True)
        self._thread.start()

    @contextmanager
    def keep(
        self, kind: Leases, key: str | int, *, fence: int, left_s: float, cancel_requested: bool = False
    ) -> Iterator[Stop]:
        """Keep the lease of what was claimed with *fence* inside the block; the Stop tells when to leave it.

        *left_s* is the time that it may still take.
        """
        kept = _Kept(kind, key, fence, clock.monotonic() + left_s)
        with self._lock:
            before = self._kept.get(key)
            self._kept[key] = kept
            if self._handing_over:
                kept.stop.set_at_boundary()
        if before is not None:
            before.stop.set(Reason.LEASE_LOST)  # this very process has claimed it again
        if cancel_requested:
            kept.stop.set(Reason.CANCELLED)
        elif left_s <= 0:
            kept.stop.set(Reason.DEADLINE)  # its time was over while it waited: nobody is asked again
        try:
            yield kept.stop
        finally:
            with self._lock:
                if self._kept.get(key) is kept:
                    del self._kept[key]

    @contextmanager
    def keep_waiting(self, run_id: str) -> Iterator[None]:
        """Keep the lease of a queued run of this process inside the block, until its turn comes."""
        with self._lock:
            self._waiting.add(run_id)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(run_id)

    def hand_over(self, *, grace_s: float) -> None:
        """Have every run handed over at its next message boundary; after *grace_s*, end what is in flight."""
        with self._lock:
            self._handing_over = True
            kept = list(self._kept.values())
        for one in kept:
            one.stop.set_at_boundary()
        timer = threading.Timer(grace_s, self._end_all)
        timer.daemon = True
        timer.start()

    def once(self) -> None:
        """Renew the leases if it is time, and tell the runs that shall stop."""
        with self._lock:
            kept, waiting = list(self._kept.values()), list(self._waiting)
        if not kept and not waiting:
            return
        for one in kept:
            if clock.monotonic() > one.deadline:
                one.stop.set(Reason.DEADLINE)
        kinds = {id(one.kind): one.kind for one in kept}.values()
        if clock.monotonic() - self._renewed_at > self._ttl_s / 3:
            with self._db.write() as tx:
                for kind in kinds:
                    kind.renew(tx, _keys(kept, kind), owner=self._owner, ttl_s=self._ttl_s)
                if waiting:
                    leases.renew_waiting(tx, waiting, owner=self._owner, ttl_s=self._ttl_s)
            self._renewed_at = clock.monotonic()
        for kind in kinds:
            with self._db.read() as tx:
                watched = {w.key: w for w in kind.watch(tx, _keys(kept, kind))}
            for one in kept:
                if one.kind is kind:
                    _tell(one, watched.get(one.key))

    @property
    def handing_over(self) -> bool:
        """Whether this process is on its way out and claims nothing more."""
        return self._handing_over

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        self._thread.join(timeout=5)
        self._db.close()

    def _end_all(self) -> None:
        with self._lock:
            kept = list(self._kept.values())
        for one in kept:
            one.stop.set(Reason.HANDED_OVER)

    def _keep_forever(self) -> None:
        while not self._closing.wait(TICK_S):
            try:
                self.once()
            except Exception as error:  # noqa: BLE001 - whatever it was, the leases of all runs hang on this thread
                log.warning("leases could not be renewed; trying again", error=error)


def _keys(kept: list[_Kept], kind: Leases) -> list[str | int]:
    return [one.key for one in kept if one.kind is kind]


def _tell(one: _Kept, row: LeaseState[Any] | None) -> None:
    if row is None or row.fence != one.fence or not row.running:
        one.stop.set(Reason.LEASE_LOST)
    elif row.cancel_requested:
        one.stop.set(Reason.CANCELLED)
