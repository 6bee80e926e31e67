"""A small process beside a worker, which renews its leases while no Python code can run in it.

A tool can hold the interpreter's lock for minutes: a C call, a regular expression, a huge number. No thread of the
worker runs then, the keeper's neither, and other workers would execute its runs a second time while they still execute
here. What that process does, and when, is in `process.lease_guard_process`. See decision 34.

It is a new process and no fork: it has none of the worker's modules, connections and locks, and 13 MB in place of 100.
"""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from worker import clock
from worker.observe import logs
from worker.process.shared_leases import SharedLeases
from worker.ticker import Ticker

TICK_S = 0.5
BLOCKED_LEASES = 10  # a worker whose threads have not run for this many leases is ended
AGAIN_S = 60.0  # between two starts of its process
# The process imports this package from where it is, and nothing from the current directory.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[2]); from worker.process import lease_guard_process as it; it.main()"
)

log = logs.get(__name__)


def tick_s(ttl_s: float) -> float:
    """Return the seconds between two signs of life of a worker whose leases last *ttl_s* seconds."""
    return min(TICK_S, ttl_s / 12)


class LeaseGuard:
    """The guard of this process. *owner* is the name of the process in the rows; *shared* is what the guard knows."""

    def __init__(self, database_url: str, *, owner: str, ttl_s: float, alone: bool) -> None:
        """Start it. *alone*: this process executes one run, which may block it until its deadline."""
        self.shared = SharedLeases.create()
        self._config = {
            "database": database_url,
            "owner": owner,
            "ttl_s": ttl_s,
            "tick_s": tick_s(ttl_s),
            "blocked_s": None if alone else BLOCKED_LEASES * ttl_s,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")
        self.shared.mark_alive()
        self._keep_running()
        self._ticker = Ticker("pulse", tick_s(ttl_s), self._tick, failure="the lease guard could not be started")

    def close(self) -> None:
        """End it. The worker has no lease any more."""
        self._ticker.close()
        if self._process is not None:
            self._process.kill()
            _reap(self._process)

    def _tick(self) -> None:
        self.shared.mark_alive()
        self._keep_running()

    def _keep_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if clock.monotonic() - self._started_at < AGAIN_S:
            return
        if self._process is not None:
            _reap(self._process)
            log.warning("the lease guard has ended; starting it again", exit_code=self._process.returncode)
        self._started_at = clock.monotonic()
        try:
            self._process = self._start()
        except OSError as error:
            log.warning("the lease guard could not be started; a blocked worker would lose its leases", error=error)

    def _start(self) -> "subprocess.Popen[bytes]":
        root = Path(__file__).parent.parent.parent
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", _PROGRAM, "lease-guard", str(root), str(self.shared.fd)],
            stdin=subprocess.PIPE,  # it stays open: its end tells the guard that this process is gone
            stdout=subprocess.DEVNULL,
            pass_fds=[self.shared.fd],
            start_new_session=True,  # Ctrl-C is not for it
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, and is started again
            process.stdin.write(json.dumps(self._config).encode() + b"\n")
            process.stdin.flush()
        return process


def _reap(process: "subprocess.Popen[bytes]") -> None:
    process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()


def start(database_url: str, *, owner: str, ttl_s: float, alone: bool) -> LeaseGuard | None:
    """Start the guard of this process. None: this system has no /proc, or no memory or file handle is left."""
    if sys.platform != "linux":
        return None
    try:
        return LeaseGuard(database_url, owner=owner, ttl_s=ttl_s, alone=alone)
    except OSError as error:
        log.warning("the lease guard could not be started; a blocked worker would lose its leases", error=error)
        return None
