"""One outage: with hundreds of runs in flight or queued, a store or the model is away for minutes. All complete.

The same checks as after all other faults, and one more: no run fails.
"""

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from api_stub.client import RequestFailed, Unreachable
from ops.chaos import evidence
from ops.chaos.book import Accepted, Book
from ops.chaos.checker import CHECKS
from ops.chaos.evidence import Evidence
from ops.chaos.outages import OUTAGES
from ops.chaos.paid import paid_again
from ops.chaos.play import settle
from ops.chaos.system import SETTINGS, Fleet, fleet
from ops.chaos.workload import TERMINAL, watch
from worker import clock
from worker.domain import RunOrder
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store.tables import runs

FIRST = 0.9  # of the runs are enqueued before the outage, the others during it
IN_FLIGHT = 40  # runs, or a quarter of all, that are running when it begins
WATCHERS = 8
WATCHED = 10  # every tenth run is watched
PER_SESSION = 2
BEGIN_S, SETTLE_S = 300.0, 900.0
MOST_RSS_MB = 400.0
INPUTS = (
    ("plain", "[words=12] [pace=0.2]"),
    ("tools", "[steps=2] [delay=1]"),
    ("tools", "[call=note {}] [call=charge {}] [delay=1]"),
    ("leads", "[delegate=b] task: [call=charge {}]"),
    ("condensed", "[delay=2]"),
)


@dataclass(slots=True)
class Endured:
    """What came of an outage. `violations`: sentences by promise. `settled_s`: from its end until all had ended."""

    kind: str
    outage: str
    seconds: float
    counts: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    settled_s: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def violation_count(self) -> int:
        """Return the number of violations."""
        return sum(map(len, self.violations.values()))


def endure(
    kind: str,
    name: str,
    *,
    seconds: float,
    count: int,
    broken: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Endured:
    """Let one outage last for some seconds under *count* runs on a database of *kind*, and check all promises.

    Raises:
        NotPossible: this machine does not allow this outage.
    """
    outage, endured = OUTAGES[name], Endured(kind, name, seconds)
    settings = SETTINGS | {
        "TEAM_SESSIONS_LEASE_SECONDS": f"{min(15.0, seconds / 3):g}",  # the outage is longer than a lease
        "TEAM_SESSIONS_MODEL_SILENCE_SECONDS": "60",
    }
    with fleet(kind, broken=broken, settings=settings, needs=outage.needs) as house:
        load = Load(house, count)
        try:
            begun = time.monotonic()

            def report(stage: str) -> None:
                passed = time.monotonic() - begun
                tell(f"{kind}, {name}: {stage}; {passed:.0f} s, {len(load.book.accepted)} of {count} runs accepted")

            load.start()
            while not load.is_in_flight():
                report("waiting until many runs are in flight")
                if time.monotonic() - begun > BEGIN_S:
                    raise RuntimeError("too few runs were in flight")
                time.sleep(0.2)
            with contextmanager(outage.hold)(house):
                began_at = clock.now()
                house.hits.append({"at": began_at.timestamp(), "pid": 0, "fault": name})
                load.send_rest(within_s=seconds)
                until = time.monotonic() + seconds
                while (left := until - time.monotonic()) > 0:
                    report(f"away for {left:.0f} s more")
                    time.sleep(min(0.2, left))
                over_at = clock.now()
            ended = time.monotonic()
            report("waiting until every run has ended")
            load.finish(within_s=SETTLE_S)
            settle(house, within_s=SETTLE_S)
            endured.settled_s = time.monotonic() - ended
        finally:
            load.close()
        collected = evidence.read(house, load.book)
        memory = peaks_mb(house)
        starts = sum(role.number - 1 for role in house.roles.values())
    endured.violations = {promise: list(check(collected)) for promise, check in CHECKS.items()}
    endured.violations["no run fails"] = [
        f"{run.id} failed: {run.error_code}" for run in collected.runs.values() if run.status == "failed"
    ]
    endured.violations["memory"] = [f"{role} had {mb:.0f} MB" for role, mb in memory.items() if mb > MOST_RSS_MB]
    endured.counts = _counts(collected, during=(began_at, over_at), memory=memory, starts=starts)
    endured.refused = dict(load.book.refused)
    return endured


class Load:
    """Enqueues the runs, most of them at once, and watches a few. `book` is what was accepted."""

    def __init__(self, house: Fleet, count: int) -> None:
        self.book = Book()
        self._house = house
        self._count = count
        self._numbers = iter(range(count))
        self._over = threading.Event()
        self._watchers = ThreadPoolExecutor(WATCHERS, thread_name_prefix="watcher")
        self._watched: list[Future[None]] = []

    def start(self) -> None:
        """Enqueue the first part in the database, as a service that uses the library does: that takes a moment.

        The sweep finds these runs. Through the API it would take so long that the first have ended before the last is
        accepted.
        """
        settings = Settings()
        for number in itertools.islice(self._numbers, int(FIRST * self._count)):
            sent, (team, text, options) = time.monotonic(), _order(number)
            run = enqueue(self._house.db, RunOrder(team, text, **options), settings=settings).run
            self._accept(number, run.id, sent=sent)

    def send_rest(self, *, within_s: float) -> None:
        """Send the others to the API, evenly over *within_s* seconds, each on a thread: it can wait for minutes."""
        rest = list(self._numbers)
        for index, number in enumerate(rest):
            timer = threading.Timer(within_s * index / len(rest), self._send, [number])
            timer.daemon = True
            timer.start()

    def is_in_flight(self) -> bool:
        """Tell whether enough runs are running."""
        with self._house.db.read() as tx:
            running = tx.execute(select(func.count()).where(runs.c.status == "running")).scalar_one()
        return int(running) >= min(IN_FLIGHT, self._count // 4)

    def finish(self, *, within_s: float) -> None:
        """Wait until each run is accepted, and has ended, and each watcher has been told so."""
        deadline = time.monotonic() + within_s
        while len(self.book.accepted) < self._count and time.monotonic() < deadline:
            time.sleep(0.2)
        settle(self._house, within_s=max(0.0, deadline - time.monotonic()))
        wait(self._watched, timeout=max(15.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End the threads."""
        self._over.set()
        self._watchers.shutdown(wait=False, cancel_futures=True)

    def _send(self, number: int) -> None:
        """Send run *number*, and try again until it is accepted."""
        sent, key = time.monotonic(), uuid.uuid4().hex
        team, text, options = _order(number)
        with self._house.client(tries=0) as client:
            while not self._over.is_set():
                try:
                    run = client.enqueue(team, text, idempotency_key=key, **options)
                except (RequestFailed, Unreachable) as error:
                    self.book.was_refused(error)
                else:
                    self._accept(number, run["id"], sent=sent)
                    return
                self._over.wait(1.0)

    def _accept(self, number: int, run_id: str, *, sent: float) -> None:
        _team, _text, options = _order(number)
        session_key = options["user_id"], options["session_id"]
        accepted = Accepted(run_id, session_key, f"M{number + 1}", "enqueue", sent, time.monotonic())
        self.book.accepted.append(accepted)
        if number % WATCHED == 0:
            watching = partial(watch, user=options["user_id"], chance=random.Random(run_id), over=self._over)
            self._watched.append(self._watchers.submit(watching, self._house, self.book, run_id))


def _order(number: int) -> tuple[str, str, dict[str, Any]]:
    """Return team, input and options of run *number*."""
    session = number // PER_SESSION
    team, text = INPUTS[session % len(INPUTS)]
    return team, f"I am M{number + 1}. {text}", {"session_id": f"s{session}", "user_id": f"u{session % 5}"}


def peaks_mb(house: Fleet) -> dict[str, float]:
    """Return the most memory that each process had so far (VmHWM), in MB, by its role."""
    peaks = {}
    for role in house.roles.values():
        assert role.process is not None
        status = Path(f"/proc/{role.process.pid}/status").read_text()
        peaks[role.name] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return peaks


def _counts(e: Evidence, *, during: tuple[datetime, datetime], memory: dict[str, float], starts: int) -> dict[str, int]:
    begin, end = during
    ended = Counter(run.status for run in e.runs.values())
    effects = Counter(effect["key"] for effect in e.effects)
    again = paid_again(e)
    return {
        "runs": len(e.runs),
        "ended in it": sum(begin < run.finished_at < end for run in e.runs.values() if run.finished_at),
        "completed": ended["completed"],
        "failed": ended["failed"],
        "not ended": sum(number for status, number in ended.items() if status not in TERMINAL),
        "attempts > 1": sum(run.attempt > 1 for run in e.runs.values()),
        "model calls": sum(call["event"] == "asked" for call in e.calls),
        "paid again": len(again),
        "in flight": sum(answer.in_flight for answer in again),
        "effects": len(e.effects),
        "twice": sum(number > 1 for number in effects.values()),
        "restarts": starts,
        "worker MB": round(max(mb for role, mb in memory.items() if role != "api")),
        "API MB": round(memory["api"]),
    }
