"""The program of a lease guard: see `process.lease_guard`.

Each tick it looks when the worker last ran. While all is well, that is all: it has no connection, and has imported
neither SQLAlchemy nor a driver. If the worker's threads do not run, it gets ready. If the worker's leases get old then,
it renews them with the statements of the keeper, as their owner. It does nothing for a worker that

- is stopped (SIGSTOP, a debugger): it loses its leases, as it always did;
- is gone: the guard ends;
- has not run for too long, or whose runs are all past their deadlines: it is ended with SIGKILL, so that a call that
  never returns holds no run for ever.

The fence still decides every write: the guard only says that the owner lives.
"""

import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from worker import clock
from worker.process.shared_leases import KINDS, KeptLease, SharedLeases

NO_TICKS = 3  # after this many ticks without a sign of life: the worker's threads do not run
PAUSE_S = 3.0  # a tick that comes so much later: the guard itself did not run, and knows nothing of the worker
SHORT_S = 10.0  # a lease for which the guard is always ready; then it has 60 MB
CONNECT_AGAIN_S = 1.0
LOCKED_S = 12.0  # see idle_in_transaction_session_timeout in store.engine
LOCKED_AGAIN_S = 0.05
KILL_S = 5.0  # how long the end of a killed process may take


class Guard:
    """Watches the process *worker* until it is gone."""

    def __init__(
        self,
        shared: SharedLeases,
        renewals: "Renewals",
        *,
        worker: int,
        ttl_s: float,
        blocked_s: float | None,
        tick_s: float,
    ) -> None:
        self._shared = shared
        self._renewals = renewals
        self._worker = worker
        self._ttl_s = ttl_s
        self._blocked_s = blocked_s
        self._tick_s = tick_s
        self._looked_at = self._silent_from = clock.monotonic()
        self._irregular_at = float("-inf")
        self._given_up = False

    def run(self, is_gone: Callable[[float], bool]) -> None:
        """Look each tick. *is_gone* waits for a number of seconds and tells whether the worker has ended."""
        started_at = clock.monotonic()
        while not is_gone(self._tick_s) and os.getppid() == self._worker:
            self.look()
            if self._ttl_s < SHORT_S and clock.monotonic() - started_at > PAUSE_S:
                self._renewals.load()

    def look(self) -> None:
        """Look once."""
        now = clock.monotonic()
        alive_at, renewed_at = self._shared.times()
        if now - self._looked_at > self._tick_s + PAUSE_S:
            self._silent_from = self._irregular_at = now
        self._looked_at = now
        silent_s = now - max(alive_at, self._silent_from)
        if silent_s > NO_TICKS * self._tick_s:
            self._irregular_at = now
        if now - self._irregular_at > self._ttl_s:
            self._renewals.rest()
            return
        if not _runs(self._worker):
            self._silent_from = now
            return
        leases = self._shared.leases()
        if self._is_blocked_for_too_long(silent_s, leases, now):
            self._end_worker(silent_s, leases)
        elif leases and not self._given_up:
            self._renewals.prepare()
            if now - max(renewed_at, min(lease.since for lease in leases)) > self._ttl_s / 2:
                self._renewals.renew(leases, silent_s=silent_s)

    def _is_blocked_for_too_long(self, silent_s: float, leases: list[KeptLease], now: float) -> bool:
        if self._blocked_s is not None and silent_s > self._blocked_s:
            return True
        over = bool(leases) and all(now > lease.deadline for lease in leases)
        return over and silent_s > self._ttl_s

    def _end_worker(self, silent_s: float, leases: list[KeptLease]) -> None:
        if self._given_up:
            return
        self._given_up = True
        log = _log()
        log.error(
            "a tool or a library has blocked this worker for too long; ending the worker",
            silent_seconds=round(silent_s),
            leases=len(leases),
        )
        os.kill(self._worker, signal.SIGKILL)
        deadline = clock.monotonic() + KILL_S
        while os.getppid() == self._worker and clock.monotonic() < deadline:
            time.sleep(0.05)
        if os.getppid() == self._worker:  # the kernel protects process 1 of a container from its own processes
            log.error("the worker could not be ended; its leases run out. Start it below an init process")


class Renewals:
    """Renews leases, on a thread: a database that does not answer must not keep the guard from its other work."""

    def __init__(self, url: str, *, owner: str, ttl_s: float) -> None:
        self._url = url
        self._owner = owner
        self._ttl_s = ttl_s
        self._thread: threading.Thread | None = None
        self._waiting: threading.Thread | None = None
        self._db: Any = None
        self._connected = False
        self._asked_at = self._tried_at = float("-inf")
        self._logged: set[str] = set()  # the texts that were logged since the worker stopped to run

    def load(self) -> None:
        """Import what is needed. On a busy machine that takes seconds, for which a short lease leaves no time."""
        if self._db is None:
            self._db = importlib.import_module("worker.store").Database(self._url, pool_size=1)

    def prepare(self) -> None:
        """Import what is needed and open a connection, unless that is done. It takes half a second."""
        if not self._connected and clock.monotonic() - self._tried_at > CONNECT_AGAIN_S:
            self._begin(self._connect)

    def renew(self, leases: list[KeptLease], *, silent_s: float) -> None:
        """Renew these leases; again after a sixth of their time."""
        self._asked_at = clock.monotonic()
        if not self._connected or clock.monotonic() - self._tried_at < self._ttl_s / 6:
            return
        if self._begin(lambda: self._write(leases)):
            fields = {"silent_seconds": round(silent_s, 1), "leases": len(leases)}
            self._log_once("a tool or a library blocks this worker; its lease guard renews its leases", **fields)

    def rest(self) -> None:
        """The worker runs again: close the connection."""
        if self._logged:
            self._logged.clear()
            _log().info("this worker runs again, and renews its leases itself")
        if self._connected and not _is_busy(self._thread) and not _is_busy(self._waiting):
            self._db.close()
            self._connected = False

    def _begin(self, work: Callable[[], None]) -> bool:
        """Do *work* on a thread, unless it is busy; on this one if the system gives no thread."""
        if _is_busy(self._thread):
            return False
        self._thread = threading.Thread(target=self._do, args=(work,), daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            self._do(work)
        return True

    def _do(self, work: Callable[[], None]) -> None:
        self._tried_at = clock.monotonic()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - mostly a database that is away: the next try is soon
            self._log_once("the lease guard could not renew leases; trying again", error=error)

    def _connect(self) -> None:
        self.load()
        with self._db.read():
            pass
        self._connected = True
        self._tried_at = float("-inf")  # it may be used at once

    def _write(self, leases: list[KeptLease]) -> None:
        locked = self._without_renewed(leases)
        if locked and not _is_busy(self._waiting):
            self._waiting = threading.Thread(target=self._wait_for, args=(locked,), daemon=True)
            self._waiting.start()

    def _without_renewed(self, leases: list[KeptLease]) -> list[KeptLease]:
        """Renew leases, and return those whose rows are locked, or that are lost."""
        renewed: set[tuple[str, object]] = set()
        with self._db.write() as tx:
            for kind in KINDS:
                if keys := [lease.key for lease in leases if lease.kind == kind]:
                    rows = importlib.import_module(f"worker.store.{kind}")
                    done = rows.renew(tx, keys, owner=self._owner, ttl_s=self._ttl_s)
                    renewed |= {(kind, key) for key in done}
        return [lease for lease in leases if (lease.kind, lease.key) not in renewed]

    def _wait_for(self, locked: list[KeptLease]) -> None:
        """Try these again and again, for as long as Postgres lets a blocked transaction of the worker hold their locks.

        By then the lease can have run out. The first to get the lock has it then, and a sweep comes each second.
        """
        begun_at = clock.monotonic()
        with suppress(Exception):
            while locked and clock.monotonic() - begun_at < LOCKED_S and clock.monotonic() - self._asked_at < PAUSE_S:
                time.sleep(LOCKED_AGAIN_S)
                locked = self._without_renewed(locked)

    def _log_once(self, text: str, **fields: object) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _log().warning(text, **fields)


def _is_busy(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()


def _runs(pid: int) -> bool:
    """Tell whether a process may run: it is neither stopped nor dead. False: that cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[0] not in "TtXxZ"
    except (OSError, IndexError):
        return False


@cache
def _log() -> Any:
    """Return a log like the worker's. It is made when there is something to say: its imports take memory."""
    logs = importlib.import_module("worker.observe.logs")
    logs.configure_from(importlib.import_module("worker.settings").load())
    return logs.get(__name__)


def main() -> None:
    """Guard the parent of this process, until it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # it ends with its worker, and not before
    worker = os.getppid()
    shared = SharedLeases(int(sys.argv[-1]))
    line = sys.stdin.buffer.readline()
    if not line:
        return
    config = json.loads(line)
    ttl_s = config["ttl_s"]
    renewals = Renewals(config["database"], owner=config["owner"], ttl_s=ttl_s)
    guard = Guard(shared, renewals, worker=worker, ttl_s=ttl_s, blocked_s=config["blocked_s"], tick_s=config["tick_s"])
    # What the worker never writes to ends with the worker.
    guard.run(lambda wait_s: bool(select.select([sys.stdin.fileno()], [], [], wait_s)[0]))
    os._exit(0)  # a thread may wait for the database
