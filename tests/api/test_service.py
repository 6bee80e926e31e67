"""The service around the runs: probes and description."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from redis import Redis

from api_stub.client import RequestFailed
from tests.api.door import Door, check_problem
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer
from worker.store import Database, migrate


def test_probes_need_no_key_and_the_description_does(door: Door) -> None:
    """`/healthz` and `/readyz` are open; everything else asks who it is."""
    with httpx2.Client(base_url=door.system.url, timeout=60) as stranger:
        health, ready = stranger.get("/healthz"), stranger.get("/readyz")
        hidden = stranger.get("/openapi.json")
        assert [stranger.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]

    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready; no worker consumes enqueue, summaries")
    check_problem(hidden, status=401, code="key_missing")
    description = door.http.get("/openapi.json").json()
    assert description["openapi"].startswith("3.1.")
    assert {"/v1/runs", "/v1/runs/{run_id}/events", "/healthz"} <= set(description["paths"])


def test_without_a_worker_nothing_is_ready(tmp_path: Path, valkey: ValkeyServer) -> None:
    """The process lives, and says that a run could not be executed; nobody serves a team."""
    url = f"sqlite:///{tmp_path / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    with system(tmp_path, database_url=url, redis_url=valkey.url) as running, running.start_api() as client:
        ready = httpx2.get(f"{running.url}/readyz", timeout=60)
        assert (ready.status_code, ready.json()["status"]) == (503, "no worker")
        assert httpx2.get(f"{running.url}/healthz", timeout=60).status_code == 200
        with pytest.raises(RequestFailed, match="No worker has announced a team 'plain'"):
            client.enqueue("plain", "hello")

        worker = running.start_worker()
        wait_until(lambda: httpx2.get(f"{running.url}/readyz", timeout=60).is_success, description="it is ready")
        worker.terminate()
        worker.wait()

        assert httpx2.get(f"{running.url}/readyz", timeout=60).status_code == 503
        assert client.enqueue("plain", "waits for a worker")["status"] == "queued"


def test_those_who_wait_are_answered_when_the_process_ends(tmp_path: Path, valkey: ValkeyServer) -> None:
    """A deploy replaces the API while somebody waits for a long run: the answer is the run as it is, and no error."""
    url = f"sqlite:///{tmp_path / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    with system(tmp_path, database_url=url, redis_url=valkey.url) as running, ThreadPoolExecutor() as pool:
        running.start_worker()
        with running.start_api() as client:
            run = client.enqueue("plain", "long [delay=60]", session_id="s", user_id="u")
            ask = {"params": {"user_id": "u", "wait": 60}, "headers": {"Authorization": f"Bearer {running.key}"}}
            waits = pool.submit(httpx2.get, f"{running.url}/v1/runs/{run['id']}", timeout=90, **ask)
            wait_until(running.journal, description="the model is asked")
            with Redis.from_url(valkey.url, decode_responses=True) as redis:
                reads = "the API waits for an event of the run"
                wait_until(lambda: any(c["cmd"] == "xread" for c in redis.client_list()), description=reads)

            running.api.terminate()

            answer = waits.result()
            assert (answer.status_code, answer.json()["status"]) == (200, "running")
            running.api.wait(timeout=120)
