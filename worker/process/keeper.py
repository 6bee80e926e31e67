"""Keep the leases of what this process executes, runs and refreshes of summaries, and learn which of it must stop.

One thread. Every half second it reads, in one statement for each kind, which were cancelled or taken over. Every third
of a lease it renews them all with one statement more. It also enforces deadlines: that ends a model call that has sent
nothing yet. Its reads show whether the database can be reached: see `process/reach.py`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker import clock
from worker.domain import LeaseState, Reason, Stop
from worker.errors import DatabaseUnavailable
from worker.process.contact import Contact
from worker.process.reach import Reach
from worker.process.shared_leases import SharedLeases
from worker.store import Database, Transaction, columns, leases
from worker.ticker import Ticker

TICK_S = 0.5


class Leases(Protocol):
    """The rows of one kind of thing that can be leased: `store.leases` for runs, `store.summary_jobs`."""

    __name__: str

    def renew(self, tx: Transaction, keys: Any, /, *, owner: str, ttl_s: float) -> Any:
        """Renew the leases of these rows, and return their keys; locked rows are skipped."""

    def watch(self, tx: Transaction, keys: Any, /) -> list[LeaseState]:
        """Return the state of these rows. Reads only, and waits for no lock."""


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: Leases
    key: str | int
    fence: int
    deadline: float  # on clock.monotonic
    stop: Stop = field(default_factory=Stop)


class Keeper:
    """The leases of one process. *owner* is its name in the rows. *probes*: it reads also when there are no leases.

    *shared* shows the leases to the guard of this process, if it has one.
    """

    def __init__(
        self,
        db: Database,
        contact: Contact,
        *,
        owner: str,
        ttl_s: float,
        probes: bool,
        shared: SharedLeases | None = None,
    ) -> None:
        self._db = db.dedicated()
        self._probes = probes
        self._shared = shared
        self.reach = Reach()
        self._owner = owner
        self._contact = contact
        self._ttl_s = ttl_s
        self._kept: dict[str | int, _Kept] = {}  # ids of runs are text, keys of sessions numbers
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._handing_over = False
        self._renewed_at = clock.monotonic()
        self._ticker = Ticker("keeper", TICK_S, self.once, failure="leases could not be renewed; trying again")

    @contextmanager
    def keep(
        self, kind: Leases, key: str | int, *, fence: int, left_s: float, cancel_requested: bool = False
    ) -> Iterator[Stop]:
        """Keep the lease that was claimed with *fence* inside the block; the Stop says when to leave the block.

        *left_s* is the time that the work may still take.
        """
        kept = _Kept(kind, key, fence, clock.monotonic() + left_s)
        with self._lock:
            replaced = self._kept.get(key)
            self._kept[key] = kept
            if self._handing_over:
                kept.stop.set_at_boundary()
        if replaced is not None:
            replaced.stop.set(Reason.LEASE_LOST)  # this very process has claimed it again
        if cancel_requested:
            kept.stop.set(Reason.CANCELLED)
        elif left_s <= 0:
            kept.stop.set(Reason.DEADLINE)  # its time was over while it waited: the model is not called again
        kind_name = kind.__name__.rpartition(".")[2]
        shared = self._shared
        try:
            with nullcontext() if shared is None else shared.keeping(kind_name, key, deadline=kept.deadline):
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

    def cancel(self, run_id: str) -> None:
        """Stop a run of this process, whose cancellation is requested, at once."""
        with self._lock:
            kept = self._kept.get(run_id)
        if kept is not None:
            kept.stop.set(Reason.CANCELLED)

    def hand_over(self, *, grace_s: float) -> None:
        """Hand over every run at its next message boundary; after *grace_s* seconds, end what is still in flight."""
        with self._lock:
            self._handing_over = True
            kept = list(self._kept.values())
        for lease in kept:
            lease.stop.set_at_boundary()
        timer = threading.Timer(grace_s, self._end_all)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # there are no threads left: nothing would end the wait
            self._end_all()

    def once(self) -> None:
        """Renew the leases if it is time, and stop the runs that must stop."""
        with self._lock:
            kept, waiting = list(self._kept.values()), list(self._waiting)
        if not kept and not waiting:
            self._probe()
            return
        for lease in kept:
            if clock.monotonic() > lease.deadline:
                lease.stop.set(Reason.DEADLINE)
        kinds = {id(lease.kind): lease.kind for lease in kept}.values()
        begun_at = clock.monotonic()
        if begun_at - self._renewed_at > self._ttl_s / 3:
            # On a disk that is nearly full the sweep's writes can succeed, and these fail: others fail as well then.
            with self._contact.needed(), self._db.write() as tx:
                for kind in kinds:
                    kind.renew(tx, _keys(kept, kind), owner=self._owner, ttl_s=self._ttl_s)
                if waiting:
                    leases.renew_waiting(tx, waiting, owner=self._owner, ttl_s=self._ttl_s)
            self._renewed_at = clock.monotonic()
            if self._shared is not None:
                self._shared.mark_renewed(begun_at)
        for kind in kinds:
            with self.reach.observed(), self._db.read() as tx:
                rows = {row.key: row for row in kind.watch(tx, _keys(kept, kind))}
            for lease in kept:
                if lease.kind is kind:
                    _stop_if_lost(lease, rows.get(lease.key))

    @property
    def handing_over(self) -> bool:
        """Whether this process is stopping, and claims nothing more."""
        return self._handing_over

    def close(self) -> None:
        """Stop the thread."""
        self._ticker.close()
        self._db.close()

    def _probe(self) -> None:
        if self._probes:
            with suppress(DatabaseUnavailable), self.reach.observed(), self._db.read() as tx:
                columns.db_now(tx)

    def _end_all(self) -> None:
        with self._lock:
            kept = list(self._kept.values())
        for lease in kept:
            lease.stop.leave()


def _keys(kept: list[_Kept], kind: Leases) -> list[str | int]:
    return [lease.key for lease in kept if lease.kind is kind]


def _stop_if_lost(lease: _Kept, row: LeaseState | None) -> None:
    if row is None or row.fence != lease.fence or not row.running:
        lease.stop.set(Reason.LEASE_LOST)
    elif row.cancel_requested:
        lease.stop.set(Reason.CANCELLED)
