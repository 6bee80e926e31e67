"""Runs that wait for a time, may take so long, or that nobody waits for."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api_stub.client import Client
from tests.support import look
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker import clock

pytestmark = pytest.mark.processes
QUEUES = "enqueue,batch,summaries"
SLOTS = 3


@pytest.fixture
def system(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[System]:
    """Model server and settings; each test starts the workers that it needs."""
    settings = {
        "TEAM_SESSIONS_LEASE_SECONDS": "3",
        "TEAM_SESSIONS_HANDOVER_SECONDS": "0",
        "TEAM_SESSIONS_BATCH_SLOTS": str(SLOTS),
    }
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings)
    yield system
    system.close()


def enqueue(system: System, input: str, *, team: str = "plain", **fields: Any) -> str:
    """Have a run accepted and return its id."""
    headers = {"Authorization": f"Bearer {system.key}"}
    body = {"team": team, "input": input, "user_id": "u", **fields}
    answer = httpx2.post(f"{system.url}/v1/runs", json=body, headers=headers, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def all_completed(client: Client, ids: list[str], *, wait_s: float = 90) -> None:
    assert [client.run(run_id, wait_s=wait_s)["status"] for run_id in ids] == ["completed"] * len(ids)


@pytest.mark.extended
def test_background_runs_take_their_slots_and_no_more(system: System, valkey: ValkeyServer) -> None:
    """By the worker for them alone, and also where every delivery of theirs was lost."""
    runs = system.start_worker()
    background = system.start_worker(queues=QUEUES, concurrency=10)
    client = system.start_api()

    ids = [enqueue(system, f"b{n} [delay=2]", priority="background", session_id=f"s{n}") for n in range(9)]
    valkey.flush()
    interactive = enqueue(system, "hello")
    most = 0
    while look.count(system.db, "completed") < 10:
        most = max(
            most, len([row for row in look.rows(system.db) if row.status == "running" and row.id != interactive])
        )
        assert not [row for row in look.rows(system.db) if row.status == "failed"]

    assert most == SLOTS
    assert {row.attempt for row in look.rows(system.db)} == {1}
    all_completed(client, ids)
    assert runs.poll() is None
    assert background.poll() is None


@pytest.mark.extended
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_background_run_outlives_its_worker(system: System, how: signal.Signals) -> None:
    """Killed or stopped: the other worker of its queue goes on behind the last written message."""
    system.start_worker()
    both = system.start_workers(2, queues=QUEUES)
    client = system.start_api()
    text = "deep [steps=4] [delay=0.5]"
    run_id = enqueue(system, text, team="with-tool", priority="background")
    wait_until(lambda: len(look.log(system.db, run_id)) >= 3, description="a turn is written")
    pid = int(look.row(system.db, run_id).lease_owner.split(":")[1])

    os.kill(pid, how)
    all_completed(client, [run_id])

    assert pid in {worker.pid for worker in both}
    row = look.row(system.db, run_id)
    assert (row.attempt, row.priority) == (2, "background")
    look.check_whole(system.db, run_id, steps=4)
    assert sum(look.calls_by_turn(system, text).values()) <= 6


def test_a_run_starts_when_its_time_has_come(system: System) -> None:
    """It is accepted at once, its successors wait behind it, and other sessions do not."""
    system.start_worker()
    client = system.start_api()
    at = clock.now() + timedelta(seconds=3)

    first = enqueue(system, "first", session_id="s", not_before=at.isoformat())
    second = enqueue(system, "second", session_id="s")
    other = enqueue(system, "other", session_id="t")
    past = enqueue(system, "past", session_id="p", not_before="2001-01-01T00:00:00+05:00")
    all_completed(client, [other, past])
    waiting = [look.row(system.db, run_id).status for run_id in (first, second)]
    all_completed(client, [first, second])

    rows = [look.row(system.db, run_id) for run_id in (first, second)]
    assert waiting == ["queued", "queued"]
    assert at <= rows[0].started_at
    assert rows[0].finished_at <= rows[1].started_at
    assert rows[0].attempt == 1
    look.check_history(system.db, rows[0].session_pk)


def test_a_run_that_takes_too_long_reaches_its_limit(system: System) -> None:
    """From its first claim on, whatever it does; what it wrote is kept, and its session goes on."""
    system.start_worker()
    client = system.start_api()

    silent = enqueue(system, "silent [delay=60]", session_id="s", timeout=1)
    behind = enqueue(system, "behind", session_id="s", timeout=60)
    retried = enqueue(system, "[fail=503] [retry-after=600]", session_id="t", timeout=2)
    ended = [client.run(run_id, wait_s=60) for run_id in (silent, retried)]

    assert [(run["status"], run["error"]["code"]) for run in ended] == [("failed", "limit_reached")] * 2
    assert "timeout" in ended[0]["error"]["message"]
    assert [m.content for m in look.log(system.db, silent)] == ["silent [delay=60]"]
    all_completed(client, [behind])
