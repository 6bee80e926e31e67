"""backlog: what accept, claim, end and a sweep cost with up to 100,000 waiting heads, and 100,000 runs after one head.

In one process, through the functions that the API and a worker call, on real databases and a real Valkey; a database
for each size, all of one server. The waiting runs are copies of one that was really accepted, and their messages of the
one that was really sent (ops/bench/fill.py): each queue is as long as its backlog. Every round is one of each for each
size, in turn, each round beginning with another:

accept  the check for room, the transaction, the message to the broker: as `POST /v1/runs` does
claim   of the head that waits longest
end     of the run that was claimed: its answer, its status, the next head, and the message for that
sweep   one pass of the repair, with a worker that has just claimed the oldest: it must find nothing lost

What the check for room counts at most once a second is measured apart. Medians; the first rounds warm up.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis import Redis
from sqlalchemy import text as sql

from ops.bench import databases, fill
from ops.bench.flat import InstantModel
from ops.bench.report import Check, Report, progress, quantile, table
from worker.domain import Claim, Draft, Role, RunOrder, Status
from worker.process import runtime as runtimes
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.claim import claim_head
from worker.runs.enqueue import enqueue
from worker.runs.finish import Ending, Head, end_head
from worker.runs.queue_limits import QueueLimits
from worker.settings import Settings
from worker.store import runs
from worker.team import Team

HEADS, BEHIND = (100, 1_000, 10_000, 100_000), (100, 100_000)
WARM_UP, ROUNDS = 20, 200
AT_MOST = 1.2
TEAM, HOT = "backlog", "hot"
PUSH = 5_000  # messages in one command


@dataclass(slots=True)
class Backlogged:
    """A database with *size* waiting runs, and the times measured on it, in milliseconds."""

    size: int
    in_one_session: bool  # all in one session, after one head
    runtime: Runtime
    room: QueueLimits
    waiting: deque[tuple[str, datetime]]  # oldest first; of those after a head only the ids count
    ms: dict[str, list[float]] = field(default_factory=lambda: {"accept": [], "claim": [], "end": [], "sweep": []})

    @property
    def name(self) -> str:
        return f"{self.size:,} {'after one head' if self.in_one_session else 'heads'}"


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with ExitStack() as stack:
            broker = stack.enter_context(databases.new_broker())
            new = _databases(stack, kind)
            plan = [(size, False) for size in HEADS] + [(size, True) for size in BEHIND]
            all_ = [
                stack.enter_context(_backlogged(kind, new(), broker, size, in_one_session))
                for size, in_one_session in plan
            ]
            for n in range(WARM_UP + ROUNDS):
                progress(f"backlog {kind}: round {n + 1} of {WARM_UP + ROUNDS}")
                turn = n % len(all_)
                for backlogged in all_[turn:] + all_[:turn]:
                    backlogged.runtime.presence.announce()
                    _round(backlogged)
            counted = {backlogged.name: _count_ms(backlogged.runtime) for backlogged in all_}
        for backlogged in all_:
            backlogged.ms = {what: ms[WARM_UP:] for what, ms in backlogged.ms.items()}
        _add(report, kind, all_, counted)


def _databases(stack: ExitStack, kind: str) -> Callable[[], str]:
    if kind == "postgres":
        return stack.enter_context(databases.new_postgres()).new_database
    return lambda: stack.enter_context(databases.new_database(kind))


@contextmanager
def _backlogged(kind: str, url: str, broker: str, size: int, in_one_session: bool) -> Iterator[Backlogged]:
    progress(f"backlog {kind}: {size} runs wait")
    addresses = {"TEAM_SESSIONS_DATABASE_URL": url, "TEAM_SESSIONS_REDIS_URL": broker}
    own = {"queue_prefix": f"{size}-{'behind' if in_one_session else 'heads'}-", "max_queued_per_session": 1_000_000}
    settings = Settings.model_validate({**addresses, **own})
    dispatcher, team = Dispatcher(make_app(settings)), Team(id=TEAM, model=InstantModel())
    runtime = runtimes.start(settings, dispatcher, {TEAM: team.definition}, ["runs"], isolated=None)
    try:
        order = RunOrder(TEAM, "Hello.", session_id=HOT if in_one_session else None)
        accepted = enqueue(runtime.db, order, settings=settings)
        dispatcher.send(accepted.dispatches)
        first = accepted.run.id, accepted.run.created_at
        if in_one_session:
            behind_it = fill.fill_behind(runtime.db, like=first[0], count=size)
            waiting = [first, *((run_id, first[1]) for run_id in behind_it)]
        else:
            waiting = [*fill.fill_waiting(runtime.db, like=first[0], prefix="w", count=size), first]
            _copy_message(broker, settings.queue("runs"), size)
        with runtime.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sql("ANALYZE" if runtime.db.is_sqlite else "VACUUM ANALYZE"))
        yield Backlogged(size, in_one_session, runtime, QueueLimits(runtime.db, settings), deque(waiting))
    finally:
        runtime.close()


def _copy_message(broker: str, queue: str, count: int) -> None:
    """Add *count* copies of the one message in a queue."""
    with Redis.from_url(broker) as redis:
        [message] = redis.lrange(queue, 0, -1)
        for first in range(0, count, PUSH):
            redis.lpush(queue, *[message] * min(PUSH, count - first))


def _round(backlogged: Backlogged) -> None:
    runtime, db = backlogged.runtime, backlogged.runtime.db

    def accept() -> None:
        backlogged.room.check("")
        order = RunOrder(TEAM, "Hello.", session_id=HOT if backlogged.in_one_session else None)
        accepted = enqueue(db, order, settings=runtime.settings)
        runtime.dispatcher.send(accepted.dispatches)
        backlogged.waiting.append((accepted.run.id, accepted.run.created_at))

    def claim() -> Claim:
        definition = runtime.teams[TEAM]
        claimed = claim_head(db, backlogged.waiting[0][0], owner=runtime.owner, ttl_s=15, definition=definition)
        assert isinstance(claimed, Claim), claimed
        return claimed

    def end(claimed: Claim) -> None:
        names = ("run_id", "session_pk", "session_id", "team", "position", "fence")
        head = Head(**{name: getattr(claimed, name) for name in names}, status=Status.RUNNING)
        ending = Ending(Status.COMPLETED, [Draft(Role.ASSISTANT, TEAM, "Answer.")], output="Answer.")
        with db.write() as tx:
            _, next_ones = end_head(tx, head, ending)
        runtime.dispatcher.send(next_ones)

    _timed(backlogged, "accept", accept)
    claimed = _timed(backlogged, "claim", claim)
    _, sent_at = backlogged.waiting.popleft()
    runtime.sweep.note_claim(claimed, sent_at=sent_at)
    _timed(backlogged, "end", lambda: end(claimed))
    resent = _timed(backlogged, "sweep", runtime.sweep.once)
    assert resent == 0, f"{backlogged.name}: the sweep took {resent} waiting runs for lost"


def _timed(backlogged: Backlogged, what: str, act: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = act()
    backlogged.ms[what].append((time.perf_counter() - began) * 1000)
    return result


def _count_ms(runtime: Runtime) -> float:
    times = []
    for _ in range(10):
        began = time.perf_counter()
        with runtime.db.read() as tx:
            runs.count_queued(tx, user_id=None, limit=runtime.settings.max_queued)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _add(report: Report, kind: str, all_: list[Backlogged], counted: dict[str, float]) -> None:
    rows = [
        [
            backlogged.name,
            *(f"{statistics.median(ms):.2f}" for ms in backlogged.ms.values()),
            *(f"{quantile(ms, 0.95):.2f}" for ms in backlogged.ms.values()),
            f"{counted[backlogged.name]:.2f}",
        ]
        for backlogged in all_
    ]
    columns = ["waiting", *(f"{what} ms" for what in all_[0].ms), *(f"p95 {what}" for what in all_[0].ms), "count ms"]
    report.tables.append(table(f"backlog, {kind}: median of {ROUNDS}", columns, rows))
    for in_one_session in (False, True):
        few, *_, many = (backlogged for backlogged in all_ if backlogged.in_one_session is in_one_session)
        for what in ("accept", "claim", "end", "sweep"):
            ratio = statistics.median(many.ms[what]) / statistics.median(few.ms[what])
            promise = f"backlog {kind}: {what} with {many.name} is at most {AT_MOST} times that with {few.name}"
            report.checks.append(Check(promise, f"{ratio:.3f}", ratio <= AT_MOST))
    report.raw[kind] = {"ms": {backlogged.name: backlogged.ms for backlogged in all_}, "count_ms": counted}
