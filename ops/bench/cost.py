"""cost: what a plain run costs each process of the service in processor time, and the broker in round trips.

Postgres, one API, one worker of 20 threads. 1,200 runs over 200 sessions by 16 clients that do not wait for answers,
after 400 that warm up; a model that answers at once in about 15 chunks. From the first POST to the last end,
heartbeats included. ops/handbook/profiles.md uses the figures; tests/flows/test_statements.py counts statements.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
from redis import Redis

from ops.bench.report import Report, table
from ops.bench.service import service, start_front
from tests.support import look
from tests.support.system import System, wait_until

RUNS, SESSIONS, CLIENTS, THREADS, WARM_UP = 1_200, 200, 16, 20, 400


def measure(report: Report, _kinds: tuple[str, ...]) -> None:
    """Measure once, on Postgres whatever the kind."""
    with service("postgres") as running:
        client = start_front(running, concurrency=THREADS)

        def send(n: int) -> None:
            client.enqueue("same", "Hello", session_id=f"cost-{n % SESSIONS}")

        def execute(count: int) -> float:
            began, ended = time.perf_counter(), look.count(running.db, "completed") + count
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(send, range(count)))
            all_ended = "all runs have ended"
            wait_until(lambda: look.count(running.db, "completed") == ended, description=all_ended, timeout_s=300)
            return time.perf_counter() - began

        execute(WARM_UP)
        used, sent = _cpu_s(running), _redis_counts(running)
        took_s = execute(RUNS)
        cpu = {name: 1000 * (now - used[name]) / RUNS for name, now in _cpu_s(running).items()}
        redis = {name: (now - sent[name]) / RUNS for name, now in _redis_counts(running).items()}
    rows = [[name, f"{ms:.2f}"] for name, ms in {**cpu, "all of these": sum(cpu.values())}.items()]
    report.tables.append(
        table(f"cost: {RUNS} runs, {RUNS / took_s:.0f} a second", ["process", "ms of CPU a run"], rows)
    )
    rows = [[name, f"{count:.1f}"] for name, count in redis.items()]
    report.tables.append(table("cost: requests to Redis", ["", "a run"], rows))
    report.raw["cost"] = {"cpu_ms": cpu, "redis": redis, "runs_a_second": RUNS / took_s}


def _cpu_s(running: System) -> dict[str, float]:
    """Return the CPU seconds that each process has used. Postgres: all servers of this machine."""
    servers: dict[str, list[psutil.Process]] = {"Postgres": [], "Redis": []}
    for process in psutil.process_iter(["name"]):
        name = str(process.info["name"])
        if name == "postgres":
            servers["Postgres"].append(process)
        elif name.startswith("valkey"):
            servers["Redis"].append(process)
    started = {"worker": running.workers[0], "API": running.api, "model": running.model}
    processes_by_name = {name: [psutil.Process(process.pid)] for name, process in started.items()} | servers
    return {
        name: sum(sum(server.cpu_times()[:2]) for server in processes) for name, processes in processes_by_name.items()
    }


def _redis_counts(running: System) -> dict[str, int]:
    """Return how many commands Redis has received, and in how many reads: a read is a round trip."""
    with Redis.from_url(running.environment["TEAM_SESSIONS_REDIS_URL"]) as redis:
        stats = redis.info("stats")
    return {"commands": stats["total_commands_processed"], "round trips": stats["total_reads_processed"]}
