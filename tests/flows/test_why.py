"""Each reason why a run does not move, brought about for real."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api_stub.client import Client
from tests.support import look
from tests.support.system import PROGRAM, System, wait_until
from tests.support.valkey import ValkeyServer
from worker import clock
from worker.store import teams

pytestmark = pytest.mark.processes
LEASE_S = 6


class Asked:
    """A system that can be asked why."""

    def __init__(self, system: System, client: Client) -> None:
        self.system = system
        self.client = client
        self.http = httpx2.Client(base_url=system.url, headers={"Authorization": f"Bearer {system.key}"}, timeout=120)

    def enqueue(self, input: str, *, team: str = "plain", **fields: Any) -> str:
        answer = self.http.post("/v1/runs", json={"team": team, "input": input, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def why(self, run_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/runs/{run_id}/why")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until(self, run_id: str, reason: str) -> dict[str, Any]:
        """Return the answer that names *reason*."""
        seen: list[str] = []

        def named() -> dict[str, Any] | None:
            found = self.why(run_id)
            seen.append(found["reason"])
            return found if found["reason"] == reason else None

        try:
            return wait_until(named, description=reason, timeout_s=120)
        except AssertionError:
            raise AssertionError(f"{reason} was not said, but {dict.fromkeys(seen)}") from None


@pytest.fixture
def asked(tmp_path: Path, database_url: str) -> Iterator[tuple[Asked, ValkeyServer]]:
    """One worker with three slots and an API, on a broker of their own."""
    valkey = ValkeyServer()
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": str(LEASE_S), "TEAM_SESSIONS_HANDOVER_SECONDS": "0"}
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings)
    system.start_worker(concurrency=3)
    asked = Asked(system, system.start_api())
    yield asked, valkey
    asked.http.close()
    system.close()
    valkey.close()


def test_what_a_run_waits_for(asked: tuple[Asked, ValkeyServer]) -> None:
    """Its predecessor, its time, its model, a slot, a queue, a script; and that it runs, or is over."""
    run, _ = asked
    later = (clock.now() + timedelta(hours=1)).isoformat()
    finished = run.enqueue("hello")
    run.client.run(finished, wait_s=30)
    limited = run.enqueue("[fail=429] [retry-after=600]")
    away = run.enqueue("[fail=503] [retry-after=600]")
    scheduled = run.enqueue("hello", not_before=later, session_id="t", user_id="u")
    behind = run.enqueue("hello", session_id="t", user_id="u")
    background = run.enqueue("hello", priority="background")
    script = run.system.start(
        "script",
        [sys.executable, "-m", "tests.support.script", run.system.database_url, "script [delay=60]"],
        environment=run.system.environment,
    )
    scripted = wait_until(lambda: _of_script(run.system), description="the script's run is there")

    assert run.until(finished, "finished")["status"] == "completed"
    facts = run.until(limited, "rate_limited")
    assert datetime.fromisoformat(facts["until"]) > clock.now() + timedelta(seconds=500), "as Retry-After said"
    assert facts["error_code"] == "model_rate_limited"
    assert run.until(away, "waits")["error_code"] == "model_unavailable"
    assert "caller" in run.until(scheduled, "not_before")["detail"]
    assert run.until(behind, "behind_run")["behind_run_id"] == scheduled
    assert run.until(background, "queue_not_consumed")["queue"] == "batch"
    assert str(script.pid) in run.until(scripted, "running")["worker"]
    slots = [run.enqueue(f"busy {n} [delay=60]") for n in range(3)]
    for slot in slots:
        run.until(slot, "running")
    assert run.until(run.enqueue("hello"), "in_queue")["queue"] == "runs"
    _check_command(run, behind)


def _of_script(system: System) -> str | None:
    found = [row.id for row in look.rows(system.db) if row.input.startswith("script")]
    return found[0] if found and look.row(system.db, found[0]).status == "running" else None


def _check_command(run: Asked, run_id: str) -> None:
    """`team-sessions why` says the same."""
    environment = run.system.environment | {"TEAM_SESSIONS_URL": run.system.url, "TEAM_SESSIONS_KEY": run.system.key}
    said = [
        subprocess.run([*PROGRAM, "why", run_id, *flags], env=environment, capture_output=True, text=True, timeout=60)
        for flags in ([], ["--json"])
    ]
    unknown = subprocess.run([*PROGRAM, "why", "run_x"], env=environment, capture_output=True, text=True, timeout=60)

    found = run.why(run_id)
    assert said[0].stdout == f"queued: {found['detail']}\n"
    assert json.loads(said[1].stdout) == found
    assert (unknown.returncode, "There is no run 'run_x'" in unknown.stderr) == (1, True)


def test_what_a_run_has_lost(asked: tuple[Asked, ValkeyServer]) -> None:
    """Its worker, which is silent, then gone; its broker; everybody who serves its team."""
    run, valkey = asked
    running = run.enqueue("slow [delay=60]")
    run.until(running, "running")
    frozen = run.system.workers[0].pid
    head = run.enqueue("slow [delay=60]", session_id="s")
    run.until(head, "running")

    run.system.freeze(frozen)
    run.client.cancel(running)
    run.until(running, "cancelling")
    soon = run.enqueue("hello", not_before=(clock.now() + timedelta(seconds=1)).isoformat())
    run.until(soon, "to_be_sent")
    assert f":{frozen}:" in run.until(head, "silent_worker")["worker"]
    run.until(head, "lease_expired")
    valkey.kill()
    run.until(soon, "broker_unreachable")
    with run.system.db.write() as tx:  # a quarter of a minute passes
        teams.leave(tx, worker=look.row(run.system.db, head).lease_owner)

    assert run.until(soon, "team_not_served")["team"] == "plain"
    assert run.until(head, "team_not_served")["last_heard_at"]


def test_a_script_holds_its_run_until_its_turn(asked: tuple[Asked, ValkeyServer]) -> None:
    """`team.run()` behind another run, which then ends while the script is frozen."""
    run, _ = asked
    first = run.enqueue("slow [delay=60]", team="with-tool", user_id="u", session_id="s")
    run.until(first, "running")
    script = run.system.start(
        "script",
        [sys.executable, "-m", "tests.support.script", run.system.database_url, "script"],
        environment=run.system.environment,
    )
    mine = wait_until(
        lambda: next((row.id for row in look.rows(run.system.db) if row.input == "script"), None),
        description="the script's run is there",
    )
    run.until(mine, "behind_run")

    run.system.freeze(script.pid)
    run.client.cancel(first)
    held = run.until(mine, "held_by_script")
    os.kill(script.pid, signal.SIGKILL)

    assert f":{script.pid}:" in held["worker"]
    assert run.client.run(mine, wait_s=60)["status"] == "completed"
