"""batches: what it costs to plan and to feed 100,000 items, and what a run waits longer beside a batch.

plan, feed: in this process, on a database with 100,000 sessions of each of two teams. All sessions of a team are
selected for `refresh_summaries` and written down as items. Then the first 1,000 items of one batch are begun, and the
last 1,000 of the other, whose items before these are marked as ended; in turns, ten a transaction, each timed. Nothing
executes what is begun.

beside: the whole service, 5,000 sessions of one run each, a worker for summaries with its 8 slots, a model for them
that takes half a second. A batch refreshes all summaries. A client sends runs one after the other, each in a session of
its own, while the batch is paused and nothing of it is in flight, then while it runs, and so on in turn to its end.
"""

import resource
import statistics
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from api_stub.client import Client
from ops.bench import databases, fill
from ops.bench.report import Check, Report, progress, quantile, spread, table
from ops.bench.service import Timed, one_run, service, start_front, start_summaries, summary_calls
from tests.support.system import System, wait_until
from worker.batches import accept, feed, lifecycle
from worker.batches import plan as planning
from worker.domain import SERVICE, Batch, BatchOrder, BatchStatus, Kind, Selection
from worker.domain.batch import MAX_WINDOW
from worker.settings import Settings
from worker.store import Database, batches, migrate
from worker.store.columns import db_time
from worker.store.tables import batch_items, sessions, summaries

SELECTED, PLAN_AT_MOST_S, MEASURED, FLAT_AT_MOST = 100_000, 10.0, 1_000, 1.1
REFRESHED, RUNS, AT_MOST = 5_000, 100, 1.1
FILLED_S = 2.0  # from its first item in flight to a full window


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        _plan_and_feed(report, kind)
        _beside(report, kind)


def _plan_and_feed(report: Report, kind: str) -> None:
    with databases.new_database(kind) as url:
        db = Database(url)
        migrate.upgrade(db)
        progress(f"batches {kind}: {2 * SELECTED:,} sessions")
        for team in ("first", "last"):
            _fill(db, team)
        before, began = _resident_mb(), time.perf_counter()
        at_start, highest = _planned(db, "first")
        took, grown = time.perf_counter() - began, highest - before
        planned, (at_end, _) = lifecycle.get(db, at_start, principal=SERVICE).planned, _planned(db, "last")
        _skip(db, at_end, ended=SELECTED - MEASURED)
        progress(f"batches {kind}: feeding")
        turns = [(_begun_ms(db, at_start), _begun_ms(db, at_end)) for _ in range(MEASURED // feed.CHUNK)]
        first, last = ([turn[n] for turn in turns] for n in range(2))
        version = databases.server_version(db)
        db.close()
    rows = [
        [name, len(ms), *(f"{f:.2f}" for f in (statistics.median(ms), quantile(ms, 0.95)))]
        for name, ms in (("first", first), ("last", last))
    ]
    columns = ["items", "transactions of 10", "p50 ms", "p95"]
    report.tables.append(table(f"batches, {kind} {version}: feeding", columns, rows))
    ratio = statistics.median(last) / statistics.median(first)
    result = f"{planned:,} in {took:.1f} s, and {grown:.0f} MB more"
    promise = f"batches {kind}: {SELECTED:,} sessions are selected and planned within {PLAN_AT_MOST_S:g} s and 64 MB"
    report.checks.append(Check(promise, result, planned == SELECTED and took <= PLAN_AT_MOST_S and grown <= 64))
    promise = f"batches {kind}: beginning the last {MEASURED:,} items takes at most {FLAT_AT_MOST} times the first"
    report.checks.append(Check(promise, f"{ratio:.3f}", ratio <= FLAT_AT_MOST))
    report.raw[f"{kind} feed"] = {"first_ms": first, "last_ms": last, "plan_s": took}


def _fill(db: Database, team: str) -> None:
    """Make sessions of one finished run each, of which there is nothing but their rows."""
    empty: dict[str, Any] = {"tags": [], "metadata": {}, "state": {}, "unsummarised": 4_000}
    zeros = {"summary_version": 0, "covers_through_seq": 0, "summary_position": 0}
    row = {"team_id": team, "run_count": 1, "last_seq": 2, **empty, **zeros}
    for begin in range(0, SELECTED, 5_000):
        with db.write() as tx:
            times = {"created_at": db_time(), "updated_at": db_time()}
            names = ({"user_id": f"u{n % 997}", "session_id": f"{team}-{n}"} for n in range(begin, begin + 5_000))
            tx.execute(insert(sessions).values(**times), [row | name for name in names])


def _planned(db: Database, team: str) -> tuple[str, float]:
    """Order a batch of all sessions of a team, and write all its items down; return it, and the most memory used."""
    order = BatchOrder(kind=Kind.REFRESH_SUMMARIES, select=Selection(team=team), window=MAX_WINDOW)
    batch_id = accept.create(db, order, principal=SERVICE, settings=Settings()).id
    highest = 0.0
    while planning.plan(db, batch_id):
        highest = max(highest, _resident_mb())
    return batch_id, highest


def _begun_ms(db: Database, batch_id: str) -> float:
    """Begin ten items; return how long it took."""
    began = time.perf_counter()
    assert feed._begin_some(db, batch_id, settings=Settings()) is not None
    return (time.perf_counter() - began) * 1000


def _skip(db: Database, batch_id: str, *, ended: int) -> None:
    """Have the first items count as begun and ended."""
    with db.write() as tx:
        held = batches.lock(tx, batch_id)
        assert held is not None
        done = (batch_items.c.batch_id == batch_id, batch_items.c.number <= ended)
        tx.execute(update(batch_items).where(*done).values(fed_at=db_time(), ended_at=db_time(), base_version=0))
        batches.change(tx, batch_id, fed=ended, ended=ended)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1_048_576


def _beside(report: Report, kind: str) -> None:
    times: dict[str, list[Timed]] = {"paused": [], "running": []}
    with service(kind) as running:
        client = start_front(running)
        progress(f"batches {kind}: {REFRESHED:,} sessions")
        fill.fill_sessions(running.db, like=one_run(client, "on").run_id, prefix="old", count=REFRESHED)
        start_summaries(running)
        order = BatchOrder(kind=Kind.REFRESH_SUMMARIES, select=Selection(team="on"))
        batch_id = accept.create(running.db, order, principal=SERVICE, settings=Settings()).id
        wait_until(lambda: _now(running, batch_id).planned >= REFRESHED, description="it is planned", timeout_s=60)
        began = time.time()
        while (batch := _now(running, batch_id)).status is not BatchStatus.COMPLETED:
            progress(f"batches {kind}: {batch.ended} of {batch.planned} refreshed")
            times["running"] += _runs(running, client, batch_id, paused=False)
            times["paused"] += _runs(running, client, batch_id, paused=True)
        took = time.time() - began
        batch, calls = _now(running, batch_id), summary_calls(running)
        with running.db.read() as tx:
            versions = tx.execute(select(summaries.c.session_pk, summaries.c.version)).all()
    rows = []
    for phase, runs in times.items():
        ms = [run.ms for run in runs]
        figures = [statistics.median(ms), quantile(ms, 0.95), *spread(ms)]
        rows.append([phase, len(runs), *(f"{figure:.1f}" for figure in figures)])
    columns = ["batch", "runs", "p50 ms", "p95", "lowest p50 of a quarter", "highest"]
    title = f"batches, {kind}: accepted to completed; {batch.ended:,} items in {took:.0f} s"
    report.tables.append(table(title, columns, rows))
    paused, beside = (statistics.median(run.ms for run in runs) for runs in times.values())
    promise = f"batches {kind}: p50 of runs beside {REFRESHED:,} refreshes is at most {AT_MOST} times that without"
    report.checks.append(Check(promise, f"{beside / paused:.3f}", beside / paused <= AT_MOST))
    once = len(versions) == len({pk for pk, _ in versions}) == batch.planned == batch.outcomes.get("completed")
    result = f"{len(versions):,} versions of {batch.planned:,} items, {len(calls):,} calls"
    promise = f"batches {kind}: each item ended with one version, and its model was asked once"
    report.checks.append(Check(promise, result, once and len(calls) == batch.planned))
    report.raw[f"{kind} beside"] = {phase: [run.ms for run in runs] for phase, runs in times.items()}


def _runs(running: System, client: Client, batch_id: str, *, paused: bool) -> list[Timed]:
    """Send runs while the batch is paused, or while it is at work; none where it has ended."""
    if _now(running, batch_id).status.terminal:
        return []
    if paused:
        lifecycle.pause(running.db, batch_id, principal=SERVICE)
        wait_until(lambda: _now(running, batch_id).in_flight == 0, description="nothing is in flight", timeout_s=60)
        if _now(running, batch_id).status.terminal:
            return []
    timed = [one_run(client, "same") for _ in range(RUNS)]
    if paused:
        lifecycle.resume(running.db, batch_id, principal=SERVICE)
        wait_until(lambda: _now(running, batch_id).in_flight > 0, description="it goes on", timeout_s=60)
        time.sleep(FILLED_S)
    return timed


def _now(running: System, batch_id: str) -> Batch:
    return lifecycle.get(running.db, batch_id, principal=SERVICE)
