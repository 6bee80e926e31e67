"""The faults: one small function each, which repairs what it broke before it returns.

Only one fault at a time hits the workers for runs, and only while two of them are ready: so one is always alive within
five seconds. A fault of a store or of the model can happen at the same time.
"""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from ops.chaos import points
from ops.chaos.system import LEASE_S, Fleet, Role, thaw
from worker.errors import DatabaseUnavailable

Lane = Literal["workers", "stores"]
SPARE_S = 20.0  # how long a fault waits for two ready workers
POINT_S = 3.0  # how long a point waits for a worker to reach it
FILE_LIMIT = 100_000  # bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """`weight`: how often, relative to the others of its lane; `only`: the kind of database it needs."""

    name: str
    weight: int
    lane: Lane
    only: str | None
    do: Callable[[Fleet, random.Random], None]


FAULTS: dict[str, Fault] = {}


def fault(
    weight: int, lane: Lane = "workers", *, only: str | None = None
) -> Callable[[Callable[[Fleet, random.Random], None]], None]:
    """Add a function to the registry. Weight 0: only when named."""

    def add(do: Callable[[Fleet, random.Random], None]) -> None:
        name = do.__name__
        FAULTS[name] = Fault(name, weight, lane, only, do)

    return add


@fault(6)
def kill_worker(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 at any moment."""
    if victim := _victim(fleet, chance):
        fleet.signal(victim, signal.SIGKILL, "kill_worker")


@fault(8)
def kill_at_point(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 at one of the named points."""
    if _victim(fleet, chance):
        _at_point(fleet, chance.choice(points.POINTS), "KILL")


@fault(3)
def kill_at_point_of_summary(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 inside a summary."""
    _at_point(fleet, chance.choice(points.SUMMARY_POINTS), "KILL")


@fault(0)
def kill_between_halves(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 inside a finish that a broken build does in two transactions."""
    if _victim(fleet, chance):
        _at_point(fleet, "between-halves", "KILL")


@fault(2)
def freeze_worker(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP past the lease, then SIGCONT: it continues with the write it was about to do."""
    if victim := _victim(fleet, chance):
        pid = fleet.signal(victim, signal.SIGSTOP, "freeze_worker")
        time.sleep(LEASE_S + chance.uniform(2, 3))
        thaw(pid)


@fault(2)
def freeze_with_reply(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP past the lease, with a model's reply received and not written."""
    _freeze_at(fleet, "after-reply", chance)


@fault(2)
def freeze_inside_write(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP past the lease, inside the transaction of a message."""
    _freeze_at(fleet, "inside-write", chance)


@fault(3)
def stop_worker(fleet: Fleet, chance: random.Random) -> None:
    """SIGTERM: it hands over its runs."""
    if victim := _victim(fleet, chance):
        fleet.signal(victim, signal.SIGTERM, "stop_worker")


@fault(1)
def kill_summaries(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of the worker for summaries."""
    fleet.signal(fleet.roles["summaries"], signal.SIGKILL, "kill_summaries")


@fault(1)
def kill_api(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of the API."""
    fleet.signal(fleet.roles["api"], signal.SIGKILL, "kill_api")


@fault(1, only="postgres")
def shift_clock(fleet: Fleet, chance: random.Random) -> None:
    """A worker restarts with a clock that is an hour wrong, and keeps it until it is killed again."""
    if victim := _victim(fleet, chance):
        victim.extra = {"CHAOS_SHIFT_S": chance.choice(("3600", "-3600"))}
        fleet.signal(victim, signal.SIGKILL, "shift_clock")


@fault(2, only="sqlite")
def fill_disk(fleet: Fleet, chance: random.Random) -> None:
    """One worker can write no file beyond a small size: its transactions meet a full disk (RLIMIT_FSIZE).

    The others and the API can write; `--outage full_disk_of_sqlite` fills the disk of all.
    """
    if (victim := _victim(fleet, chance)) and victim.process is not None:
        pid = fleet.signal(victim, signal.SIGCONT, "fill_disk")
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_LIMIT, before[1]))
        time.sleep(chance.uniform(3, LEASE_S + 2))
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@fault(3, "stores")
def cut_broker(fleet: Fleet, chance: random.Random) -> None:
    """CLIENT KILL: every connection to Valkey breaks."""
    with Redis.from_url(fleet.valkey.url) as redis:
        for kind in ("normal", "pubsub"):
            try:
                redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            except RedisError:
                continue


@fault(3, "stores")
def flush_broker(fleet: Fleet, chance: random.Random) -> None:
    """FLUSHALL."""
    fleet.valkey.flush()


@fault(2, "stores")
def restart_broker(fleet: Fleet, chance: random.Random) -> None:
    """Valkey dies and restarts empty."""
    fleet.valkey.kill()
    time.sleep(chance.uniform(0, 3))
    fleet.valkey.start()


@fault(1, "stores")
def freeze_broker(fleet: Fleet, chance: random.Random) -> None:
    """Valkey answers nothing for ten seconds."""
    os.kill(fleet.valkey.pid, signal.SIGSTOP)
    time.sleep(10)
    thaw(fleet.valkey.pid)


@fault(4, "stores", only="postgres")
def cut_database(fleet: Fleet, chance: random.Random) -> None:
    """pg_terminate_backend: every connection to the database breaks."""
    try:
        with fleet.db.read() as tx:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            tx.execute(text(f"{others} AND datname = current_database()"))
    except DatabaseUnavailable:
        return


@fault(2, "stores", only="postgres")
def restart_database(fleet: Fleet, chance: random.Random) -> None:
    """Postgres crashes and restarts."""
    assert fleet.postgres is not None
    fleet.postgres.stop(mode="immediate")
    time.sleep(chance.uniform(0, 2))
    fleet.postgres.start()


@fault(1, "stores", only="postgres")
def stop_database(fleet: Fleet, chance: random.Random) -> None:
    """Postgres is away for longer than a lease."""
    assert fleet.postgres is not None
    fleet.postgres.stop()
    time.sleep(LEASE_S + chance.uniform(1, 4))
    fleet.postgres.start()


@fault(2, "stores")
def hold_lock(fleet: Fleet, chance: random.Random) -> None:
    """Another program holds a lock for longer than a lease: of a table, or of the SQLite file."""
    table = chance.choice(("runs", "sessions", "messages", "summary_jobs"))
    seconds = LEASE_S + chance.uniform(1, 4)  # less than 10 s, when Postgres ends an idle transaction
    with suppress(DatabaseUnavailable), fleet.db.write() as tx:
        if fleet.postgres is not None:
            tx.execute(text(f"LOCK TABLE team_sessions.{table}"))
        time.sleep(seconds)


@fault(4, "stores")
def trouble_model(fleet: Fleet, chance: random.Random) -> None:
    """For a few seconds every model call is rate-limited, cut, malformed or slow."""
    troubles = ("[fail=429] [retry-after=1]", "[fail=503]", "[cut=2] [words=9]", "[cut=0]", "[garbage]", "[delay=2]")
    fleet.marks.write_text(chance.choice(troubles))
    time.sleep(chance.uniform(1, 4))
    fleet.marks.unlink()


def _victim(fleet: Fleet, chance: random.Random) -> Role | None:
    """Return one of two or more ready workers; None: there were not two in time."""
    deadline = time.monotonic() + SPARE_S
    while time.monotonic() < deadline:
        if len(candidates := fleet.ready_workers()) > 1:
            return chance.choice(candidates)
        time.sleep(0.05)
    return None


def _freeze_at(fleet: Fleet, point: str, chance: random.Random) -> None:
    if _victim(fleet, chance) and (pid := _at_point(fleet, point, "STOP")):
        time.sleep(LEASE_S + chance.uniform(2, 3))
        thaw(pid)


def _at_point(fleet: Fleet, point: str, what: str) -> int | None:
    """Request a signal at a point; return the pid that sent it to itself, None if no worker reached the point."""
    before = len(fleet.lines("hits.jsonl"))
    request = fleet.points / point
    request.with_suffix(".new").write_text(what)
    request.with_suffix(".new").rename(request)
    deadline = time.monotonic() + POINT_S
    while request.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    request.unlink(missing_ok=True)
    time.sleep(0.1)  # the process that removed it writes its hit
    hits = fleet.lines("hits.jsonl")[before:]
    return int(hits[0]["pid"]) if hits else None
