"""stream: from the model's chunk to the watcher's event.

One API process, one worker, Valkey, a model server that answers with the time at which it writes each word. 1, 100 and
1,000 watchers, each of a run that 10 of them share, or fewer; all in one process of their own, over sockets on
loopback. A watcher compares its clock, which is the same machine's, with each time that an event brings: so what the
worker waits for more deltas (50 ms) is in it, and so is what the watchers themselves are late.

No target is set for the times. Every watcher must be shown every event: each word of its run, and one end.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from api_stub.client import AsyncClient
from ops.bench import databases
from ops.bench.report import Check, Report, progress, quantile, table
from ops.bench.service import service, start_front
from tests.support.system import ROOT, System

WATCHERS = (1, 100, 1_000)
SHARE = 10  # watchers of the same run
WORDS, PACE_S, DELAY_S = 50, 0.2, 5.0  # the watchers come while the model is silent
LATEST_S = 120.0


def measure(report: Report, kinds: tuple[str, ...], watchers: tuple[int, ...] = WATCHERS) -> None:
    """Measure on each kind of database."""
    for kind in kinds:
        with service(kind, TEAM_SESSIONS_TEAMS="tests.support.teams") as running:
            version = databases.server_version(running.db)
            client = start_front(running, concurrency=max(watchers) // SHARE + 1)
            rows = []
            for count in watchers:
                progress(f"stream {kind}: {count} watchers")
                text = f"[stamp] [delay={DELAY_S}] [words={WORDS}] [pace={PACE_S}]"
                ids = [client.enqueue("plain", text)["id"] for _ in range(max(1, count // SHARE))]
                received = _watched(running, ids, count)
                whole = [watcher for watcher in received if len(watcher["late_ms"]) == WORDS and watcher["ends"] == 1]
                late = [ms for watcher in received for ms in watcher["late_ms"]]
                figures = (statistics.median(late), quantile(late, 0.95), max(late))
                rows.append([count, len(ids), len(late), *(f"{figure:.1f}" for figure in figures)])
                promise = f"stream {kind}: each of {count} watchers is shown every word and one end"
                report.checks.append(Check(promise, f"{len(whole)} were", len(whole) == count))
                report.raw[f"{kind} {count}"] = received
        columns = ["watchers", "runs", "words shown", "p50 ms", "p95", "max"]
        report.tables.append(table(f"stream, {kind} {version}: from the model's chunk to the watcher", columns, rows))


def _watched(running: System, ids: list[str], count: int) -> list[dict[str, Any]]:
    """Return what each watcher found, from a process of their own."""
    order = json.dumps({"url": running.url, "key": running.key, "ids": ids, "count": count})
    command = [sys.executable, "-m", "ops.bench.stream"]
    done = subprocess.run(command, input=order.encode(), stdout=subprocess.PIPE, cwd=ROOT, timeout=LATEST_S, check=True)
    received: list[dict[str, Any]] = json.loads(done.stdout)
    return received


async def _watch(client: AsyncClient, run_id: str) -> dict[str, Any]:
    """Watch a run to its end; return how late each word was, and how many events ended the run."""
    late, ends, rest = [], 0, ""
    async for event in client.stream(run_id):
        now = time.time()
        if event.type == "message.delta":
            *words, rest = (rest + event.data["delta"]).split(";")
            late += [(now - float(word)) * 1000 for word in words]
        ends += event.terminal
    return {"late_ms": late, "ends": ends}


async def _watch_all(*, url: str, key: str, ids: list[str], count: int) -> list[dict[str, Any]]:
    async with AsyncClient(url, key) as client:
        return list(await asyncio.gather(*(_watch(client, ids[n % len(ids)]) for n in range(count))))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_watch_all(**json.load(sys.stdin)))))
