"""lanes: what a run waits longer while 10,000 summaries are due and every slot for them is taken (promise 7).

The whole service, one worker for summaries with its 8 slots, a model for them that takes 2 s: the backlog lasts longer
than the bench. It is made in the store, through its own functions, and every bell is sent. A client sends runs one
after the other, each in a session of its own, while the worker for summaries is stopped (SIGSTOP), then while it is at
work, and so on in turn. How many slots are taken is counted in the model server's journal.
"""

import os
import signal
import sqlite3
import statistics
import time
from subprocess import Popen

from redis import Redis
from sqlalchemy import text

from api_stub.client import Client
from ops.bench import fill
from ops.bench.report import Check, Report, progress, quantile, spread, table
from ops.bench.service import Call, Timed, one_run, open_summaries, service, start_front, start_summaries, summary_calls
from tests.support.system import System, wait_until
from worker.domain import summary_dispatch
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.settings import Settings
from worker.store import summary_jobs

TEAM, SUMMARY_S = "slow", 2.0
DUE, SLOTS = 10_000, Settings.model_fields["summary_slots"].default
ROUNDS, RUNS = 8, 30
AT_MOST = 1.2


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        times: dict[str, list[Timed]] = {"idle": [], "loaded": []}
        with service(kind) as running:
            client = start_front(running)
            progress(f"lanes {kind}: {DUE} sessions")
            _make_due(running, like=one_run(client, TEAM).run_id)
            worker = start_summaries(running)[0]
            while_ringing = _until_all_bells_are_heard(running, client)
            for n in range(ROUNDS + 1):  # the first warms up
                for phase, prepare in (("idle", _stop), ("loaded", _continue)):
                    progress(f"lanes {kind}: round {n} of {ROUNDS}, {phase}")
                    prepare(running, worker)
                    runs = [one_run(client, TEAM) for _ in range(RUNS)]
                    times[phase] += runs if n else []
            calls, left = summary_calls(running), open_summaries(running)
        _add(report, kind, {"bells are heard": while_ringing, **times}, calls)
        report.tables.append(f"lanes, {kind}: {left:,} summaries were still due at the end")


def _make_due(running: System, *, like: str) -> None:
    """Make the sessions, have a summary open_summaries of each, and ring."""
    pks = fill.fill_sessions(running.db, like=like, prefix="due", count=DUE)
    waiting = list(pks)
    for first in range(0, DUE, fill.BATCH):
        with running.db.write() as tx:
            for pk in waiting[first : first + fill.BATCH]:
                summary_jobs.request_if_due(tx, pk, covers_through_seq=0, through_seq=2, step=1)
    settings = Settings.model_validate({"TEAM_SESSIONS_REDIS_URL": running.environment["TEAM_SESSIONS_REDIS_URL"]})
    bells = [summary_dispatch(pk, session_id=name, team=TEAM, version=0) for pk, name in pks.items()]
    Dispatcher(make_app(settings)).send(bells)


def _until_all_bells_are_heard(running: System, client: Client) -> list[Timed]:
    """Send runs while the worker takes one bell after the other, and drops all that find no free slot."""
    runs = []
    with Redis.from_url(running.environment["TEAM_SESSIONS_REDIS_URL"]) as redis:
        while redis.llen("summaries"):
            runs.append(one_run(client, TEAM))
    return runs


def _stop(running: System, worker: Popen[bytes]) -> None:
    """Freeze the worker outside a write transaction, and wait until its model calls are answered."""

    def frozen_outside_a_transaction() -> bool:
        os.kill(worker.pid, signal.SIGSTOP)
        time.sleep(0.05)
        if _no_open_write(running):
            return True
        os.kill(worker.pid, signal.SIGCONT)
        return False

    wait_until(frozen_outside_a_transaction, description="the worker for summaries is outside a transaction")
    wait_until(lambda: _in_flight(running) == 0, description="no summary is asked for")


def _continue(running: System, worker: Popen[bytes]) -> None:
    """Continue the worker, and wait until its slots are taken."""
    os.kill(worker.pid, signal.SIGCONT)
    wait_until(lambda: _in_flight(running) == SLOTS, description="all slots are taken")


def _no_open_write(running: System) -> bool:
    if not running.db.is_sqlite:
        with running.db.read() as tx:
            inside = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            return int(tx.execute(text(inside)).scalar_one()) == 0
    connection = sqlite3.connect(str(running.db.engine.url.database), timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _in_flight(running: System) -> int:
    return _at(time.time(), summary_calls(running))


def _add(report: Report, kind: str, times: dict[str, list[Timed]], calls: list[Call]) -> None:
    taken = {phase: [_at(run.accepted, calls) for run in runs] for phase, runs in times.items()}
    rows = []
    for phase, runs in times.items():
        ms = [run.ms for run in runs]
        figures = [statistics.median(ms), quantile(ms, 0.95), *spread(ms), statistics.median(r.client_ms for r in runs)]
        rows.append(
            [phase, len(runs), *(f"{figure:.1f}" for figure in figures), f"{statistics.mean(taken[phase]):.2f}"]
        )
    columns = ["summaries", "runs", "p50 ms", "p95", "lowest p50 of a quarter", "highest", "by client", "slots taken"]
    report.tables.append(table(f"lanes, {kind}: accepted to completed", columns, rows))

    idle, loaded = (statistics.median(run.ms for run in times[phase]) for phase in ("idle", "loaded"))
    promise = f"lanes {kind}: p50 with {DUE:,} summaries due is at most {AT_MOST} times that of the idle machine"
    report.checks.append(Check(promise, f"{loaded / idle:.3f}", loaded / idle <= AT_MOST))
    all_taken = sum(count == SLOTS for count in taken["loaded"])
    promise = f"lanes {kind}: all {SLOTS} slots were taken when a run was accepted, in 9 of 10 at least; idle: none"
    result = f"{all_taken} of {len(taken['loaded'])}; idle: {max(taken['idle'])}"
    report.checks.append(Check(promise, result, all_taken >= 0.9 * len(taken["loaded"]) and not any(taken["idle"])))
    report.raw[kind] = {phase: [run.ms for run in runs] for phase, runs in times.items()}


def _at(moment: float, calls: list[Call]) -> int:
    """Return how many of *calls* were in flight."""
    return sum(call.overlaps(moment, moment) for call in calls)
