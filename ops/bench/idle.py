"""idle: from accepted to completed while the machine has nothing else to do.

An API process, one worker process, Valkey, a model server that answers at once; SQLite and Postgres with fsync. A
client on loopback sends 200 runs one after the other, each in a session of its own: POST, then GET ?wait=10. Then it
sends 10 runs of one session in parallel, and waits for the last; 20 times.

By rows: `finished_at` - `created_at`, on the database's clock: accepted → completed, what the target speaks of. By the
client: from sending the POST to reading the terminal run, so two requests, both commits and the client itself are in
it; shown beside, without a target for the single run.

Beside Agno's durable queue (ops/bench/beside.py): single runs, in turn, from sending the POST to the end of the run as
a look at the rows every 2 ms shows it, the same for both.
"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from api_stub.client import Client, Run
from ops.bench import databases
from ops.bench.beside import Load, Round, one_round, sides, wrongs
from ops.bench.report import Check, Ratio, Report, progress, quantile, spread, table
from ops.bench.service import service, start_front

WARM_UP, SINGLE = 20, 200
BURST, BURSTS = 10, 20
SINGLE_AT_MOST_MS = 22.0
BURST_AT_MOST_MS = 320.0
BESIDE, AT_MOST = 60, 0.3
ONE = Load(runs=1, sessions=1, clients=1)

Times = dict[str, list[float]]  # "rows" and "client": milliseconds


def measure(report: Report, kinds: tuple[str, ...]) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with service(kind, TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
            version = databases.server_version(running.db)
            client = start_front(running)
            single = _one_by_one(client, kind)
            bursts = _bursts(client, kind)
        report.raw[kind] = {"version": version, "single_ms": single, "burst_ms": bursts}
        _add(report, kind, f"{kind} {version}", single, bursts)
        _beside(report, kind)


def _one_by_one(client: Client, kind: str) -> Times:
    times: Times = {"rows": [], "client": []}
    for n in range(WARM_UP + SINGLE):
        progress(f"idle {kind}: run {n + 1} of {WARM_UP + SINGLE}")
        began = time.perf_counter()
        run = client.enqueue("plain", "Hello.")
        done = client.run(run["id"], wait_s=10)
        took = time.perf_counter() - began
        if n >= WARM_UP:
            times["client"].append(took * 1000)
            times["rows"].append(_ms(run, done))
    return times


def _bursts(client: Client, kind: str) -> Times:
    times: Times = {"rows": [], "client": []}
    with ThreadPoolExecutor(BURST) as pool:
        for n in range(-2, BURSTS):  # two to warm up
            progress(f"idle {kind}: {BURST} runs of one session, time {n + 1} of {BURSTS}")
            began = time.perf_counter()
            sent = [pool.submit(client.enqueue, "plain", "Hello.", session_id=f"burst-{n}") for _ in range(BURST)]
            runs = sorted((future.result() for future in sent), key=lambda run: int(run["position"]))
            done = client.run(runs[-1]["id"], wait_s=10)
            took = time.perf_counter() - began
            if n >= 0:
                times["client"].append(took * 1000)
                times["rows"].append(_ms(runs[0], done))
    return times


def _ms(first: Run, last: Run) -> float:
    """Return the milliseconds from the acceptance of one run to the end of another, by their rows."""
    assert last["status"] == "completed", last
    between = datetime.fromisoformat(str(last["finished_at"])) - datetime.fromisoformat(first["created_at"])
    return between.total_seconds() * 1000


def _add(report: Report, kind: str, title: str, single: Times, bursts: Times) -> None:
    rows = []
    for what, times in ((f"{SINGLE} runs", single), (f"{BURST} at once, {BURSTS} times", bursts)):
        for by, values in times.items():
            figures = [statistics.median(values), quantile(values, 0.95), max(values), *spread(values)]
            rows.append([what, by, *(f"{figure:.1f}" for figure in figures)])
    columns = ["what", "measured by", "p50 ms", "p95", "max", "lowest p50 of a quarter", "highest"]
    report.tables.append(table(f"idle, {title}: accepted to completed", columns, rows))
    for what, times, limit in (("one run", single, SINGLE_AT_MOST_MS), (f"{BURST} runs", bursts, BURST_AT_MOST_MS)):
        for by, values in times.items():
            if by == "client" and times is single:
                continue
            p50 = statistics.median(values)
            promise = f"idle {kind}: p50 of {what} by {by} is at most {limit:g} ms"
            report.checks.append(Check(promise, f"{p50:.1f} ms", p50 <= limit))


def _beside(report: Report, kind: str) -> None:
    with sides(kind) as both:
        rounds: dict[str, list[Round]] = {side.name: [] for side in both}
        for n in range(WARM_UP + BESIDE):
            progress(f"idle {kind}: run {n + 1} of {WARM_UP + BESIDE} beside Agno")
            for side in both:
                rounds[side.name] += [one_round(side, f"idle-{n}", ONE)]
    ms = {name: [result.took_s * 1000 for result in measured[WARM_UP:]] for name, measured in rounds.items()}
    rows = [
        [
            name,
            *(f"{ms:.1f}" for ms in (statistics.median(times), quantile(times, 0.95), max(times))),
            wrongs(rounds[name]),
        ]
        for name, times in ms.items()
    ]
    title = f"idle, ours on {kind}: {BESIDE} single runs each, from the POST to the end"
    report.tables.append(table(title, ["side", "p50 ms", "p95", "max", "wrong"], rows))
    (_, product), (peer, peer_ms) = ms.items()
    both_p50 = statistics.median(product), statistics.median(peer_ms)
    ratio = Ratio(f"idle {kind}: p50 of a run", "ms", both_p50[0], peer, both_p50[1], wrongs(rounds[peer]))
    report.compare(ratio, at_most=AT_MOST)
    report.raw[f"{kind}, beside"] = ms
