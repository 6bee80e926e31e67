"""One test: start everything, work and break it for a while, repair, wait until it settles, read, check."""

import itertools
import random
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from ops.chaos import evidence
from ops.chaos.broken import BREAKS
from ops.chaos.checker import CHECKS, failed_by_outages
from ops.chaos.evidence import Evidence
from ops.chaos.faults import FAULTS, Fault
from ops.chaos.paid import paid_again
from ops.chaos.system import Fleet, fleet
from ops.chaos.workload import TERMINAL, Workload
from worker.errors import DatabaseUnavailable
from worker.store.tables import runs, summary_jobs

SETTLE_S, SETTLE_BROKEN_S = 90.0, 20.0
PAUSE_S = {"workers": (0.5, 2.0), "stores": (1.0, 5.0)}  # between two faults of a lane


@dataclass(slots=True)
class Outcome:
    """The result: violations of each promise, faults, counts, and how long runs waited for a new worker."""

    seed: str
    seconds: float
    violations: dict[str, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    counts: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    recovery_s: list[float] = field(default_factory=list)
    slowest: list[str] = field(default_factory=list)  # of them, with the faults during that time

    @property
    def violation_count(self) -> int:
        """Return the number of violations."""
        return sum(map(len, self.violations.values()))


def play(
    kind: str,
    *,
    seconds: float,
    seed: str,
    only: Sequence[str] = (),
    broken: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Break the product on a database of *kind* for some seconds, and check it.

    *only*: use these faults alone. A *broken* build gets the faults that reveal it.
    """
    outcome = Outcome(seed, seconds)
    with fleet(kind, broken=broken) as broke, closing(Workload(broke, seed)) as workload:
        workload.start()
        stopping = threading.Event()
        chosen = [f for f in FAULTS.values() if f.weight and f.only in (None, kind)]
        if names := only or (BREAKS[broken][1] if broken else ()):
            chosen = [FAULTS[name] for name in names]
        lanes = [
            threading.Thread(target=_break, args=(broke, lane, own, seed, stopping, outcome.faults), daemon=True)
            for lane in PAUSE_S
            if (own := [f for f in chosen if f.lane == lane])
        ]
        for thread in lanes:
            thread.start()
        begin = time.monotonic()
        while (passed := time.monotonic() - begin) < seconds:
            done = f"{len(workload.book.accepted)} runs accepted, {outcome.faults.total()} faults"
            tell(f"{kind}: {passed:.0f} of {seconds:.0f} s, {done}")
            time.sleep(0.2)
        stopping.set()
        for thread in lanes:
            thread.join()
        workload.stop()
        tell(f"{kind}: waiting until every run has ended")
        settle(broke, within_s=SETTLE_BROKEN_S if broken else SETTLE_S)
        workload.finish(within_s=15)
        collected = evidence.read(broke, workload.book)
    # A fault counts if it hit a process; a point that no worker reached in time did nothing.
    outcome.faults = Counter(hit["fault"] for hit in collected.hits)
    outcome.violations = {promise: list(check(collected)) for promise, check in CHECKS.items()}
    recovered = recoveries(collected)
    outcome.recovery_s = [seconds for seconds, _ in recovered]
    outcome.slowest = [f"{seconds:.1f} s: {faults}" for seconds, faults in recovered[:-4:-1]]
    outcome.counts = _counts(collected)
    outcome.refused = dict(workload.book.refused)
    return outcome


def recoveries(e: Evidence) -> list[tuple[float, list[str]]]:
    """Return, for each run that lost its worker to a fault, the seconds until it was claimed again, the longest last.

    With the faults in that time. Without runs that ended, were deleted or were handed over in time.
    """
    by_run: dict[str, list[Any]] = defaultdict(list)
    for note in e.audit:
        if note.what in ("claim", "end", "requeue"):
            by_run[note.key].append(note)
    taken: list[tuple[float, list[str]]] = []
    for notes in by_run.values():
        for held, after in itertools.pairwise(notes):
            if held.what == after.what == "claim":
                own = (hit["at"] for hit in e.hits if hit["pid"] == held.pid)
                at = next((at for at in own if held.at.timestamp() <= at <= after.at.timestamp()), None)
                if at is not None:
                    until = after.at.timestamp()
                    taken.append((until - at, [hit["fault"] for hit in e.hits if at <= hit["at"] <= until]))
    return sorted(taken)


def settle(broke: Fleet, *, within_s: float) -> None:
    """Wait until every run has ended and every summary is made; the checker reports the others."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            with broke.db.read() as tx:
                run = tx.execute(select(runs.c.id).where(runs.c.status.not_in(TERMINAL)).limit(1)).first()
                jobs = select(summary_jobs.c.session_pk).where(summary_jobs.c.send_at.is_not(None))
                job = tx.execute(jobs.limit(1)).first()
        except DatabaseUnavailable:
            continue
        if run is None and job is None:
            return
        time.sleep(0.2)


def p50(values: list[float]) -> float:
    """Return the median, 0 for no values."""
    return statistics.median(values) if values else 0.0


def _break(
    broke: Fleet, lane: str, faults: list[Fault], seed: str, stopping: threading.Event, done: Counter[str]
) -> None:
    chance = random.Random(f"{seed} {lane}")
    weights = [max(f.weight, 1) for f in faults]
    while not stopping.wait(chance.uniform(*PAUSE_S[lane])):
        fault = chance.choices(faults, weights)[0]
        if lane == "stores":
            broke.hits.append({"at": time.time(), "pid": 0, "fault": fault.name})
        fault.do(broke, chance)
        done[fault.name] += 1


def _counts(e: Evidence) -> dict[str, int]:
    requests = [call["by"].split() for call in e.calls if call["event"] == "asked" and "by" in call]
    ended = Counter(run.status for run in e.runs.values())
    again = paid_again(e)
    return {
        "accepted": len(e.book.accepted),
        **{status: ended[status] for status in TERMINAL},
        "sessions deleted": len(e.book.deleted),
        "watched": len(e.book.watched),
        "messages": sum(map(len, e.written.values())),
        "summaries": sum(map(len, e.summaries.values())),
        "model calls": len(requests),
        "of them again": len(requests) - len({(run, delegation, turn) for run, _, delegation, turn in requests}),
        "answers paid again": len(again),
        "of them in flight": sum(answer.in_flight for answer in again),
        "runs failed by an outage": len(failed_by_outages(e)),
        "tool effects": len(e.effects),
        "processes hit": sum(hit["pid"] != 0 for hit in e.hits),
    }
