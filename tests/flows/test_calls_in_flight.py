"""Calls to one model at the same time: no more than the setting allows, by all workers together."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from api_stub.client import Client
from tests.support import look
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.processes
LIMIT = 3


@pytest.fixture
def busy(tmp_path: Path, database_url: str) -> Iterator[tuple[System, Client, ValkeyServer]]:
    """Two workers and an API, on a broker of their own."""
    valkey = ValkeyServer()
    settings = {"TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT": str(LIMIT), "TEAM_SESSIONS_LEASE_SECONDS": "3"}
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings)
    system.start_workers(2)
    yield system, system.start_api(), valkey
    system.close()
    valkey.close()


def most(system: System, *, killed: float = float("inf")) -> int:
    """Return how many calls were in flight at once; those that nobody was answered ended when they were *killed*."""
    calls: dict[int, dict[str, float]] = {}
    for line in system.journal():
        calls.setdefault(line["call"], {})[line["event"]] = line["at"]
    spans = [(at["asked"], at.get("answered", killed)) for at in calls.values()]
    return max(sum(begun <= at < ended for begun, ended in spans) for at, _ in spans)


def enqueue(client: Client, count: int, said: str) -> list[str]:
    return [client.enqueue("plain", said, session_id=f"{said} {n}", user_id="u")["id"] for n in range(count)]


def asked(system: System) -> int:
    return sum(line["event"] == "asked" for line in system.journal())


def check_completed(client: Client, ids: list[str]) -> None:
    ended = [client.run(run_id, wait_s=60) for run_id in ids]
    assert [(run["status"], run["error"]) for run in ended] == [("completed", None)] * len(ids)


@pytest.mark.extended
def test_no_more_calls_than_the_setting_allows(busy: tuple[System, Client, ValkeyServer]) -> None:
    """By two workers together, and one of them is killed: its places are free again after a while."""
    system, client, valkey = busy

    check_completed(client, enqueue(client, 15, "[delay=0.3]"))
    assert most(system) == LIMIT

    long = enqueue(client, LIMIT, "[delay=6]")
    wait_until(lambda: look.count(system.db, "running") == LIMIT, description="all places are taken")
    for worker in system.workers:
        os.kill(worker.pid, signal.SIGKILL)
    killed = time.time()
    system.start_worker()
    check_completed(client, [*long, *enqueue(client, 3, "hello")])
    assert most(system, killed=killed) == LIMIT
    with Redis.from_url(valkey.url) as redis:
        assert redis.zcard("model:rules:calls") == 0


@pytest.mark.extended
def test_each_worker_counts_alone_while_redis_is_away(busy: tuple[System, Client, ValkeyServer]) -> None:
    """No call waits for Redis; once it is back, the calls that go on are counted again."""
    system, client, valkey = busy
    first = enqueue(client, 8, "[delay=9]")
    wait_until(lambda: len(look.rows(system.db)) == 8, description="they are there")
    wait_until(lambda: asked(system) == LIMIT, description="three are asked")

    valkey.kill()
    wait_until(lambda: asked(system) > LIMIT, description="more are asked")
    valkey.start()

    check_completed(client, first)
    assert LIMIT < most(system) <= 2 * LIMIT


@pytest.mark.extended
def test_a_run_without_a_place_gives_its_slot_back(busy: tuple[System, Client, ValkeyServer]) -> None:
    """After ten seconds it waits in the queue, says why, and counts no failure."""
    system, client, _ = busy
    first = enqueue(client, LIMIT, "[delay=25]")
    wait_until(lambda: look.count(system.db, "running") == LIMIT, description="all places are taken")

    waits = client.enqueue("plain", "hello", session_id="s", user_id="u")["id"]

    seen = wait_until(
        lambda: next((why for why in [client.why(waits)] if why["reason"] == "model_busy"), None),
        description="it says that the model is busy",
    )
    assert "TEAM_SESSIONS_MODEL_CALLS_IN_FLIGHT" in seen["detail"]
    assert look.row(system.db, waits).retries == 0
    check_completed(client, [*first, waits])
