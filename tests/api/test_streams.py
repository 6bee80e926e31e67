"""Responses that last: how many there may be, and what ends them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest
from redis import Redis

from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.domain import RunOrder
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import api_keys

SETTINGS = {"TEAM_SESSIONS_MAX_STREAMS": "5", "TEAM_SESSIONS_MAX_STREAMS_PER_KEY": "3"}


@pytest.fixture
def running(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[System]:
    """An API process with few streams, and no worker: its runs wait."""
    with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=SETTINGS) as made:
        made.start_api()
        yield made


def new_run(running: System) -> str:
    return enqueue(running.db, RunOrder("plain", "x", user_id="u"), settings=Settings()).run.id


def new_key(running: System) -> str:
    with running.db.write() as tx:
        return api_keys.create(tx, name="test")


@contextmanager
def watched(running: System, run_id: str, key: str) -> Iterator[httpx2.Response]:
    """Open a run's stream."""
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{running.url}/v1/runs/{run_id}/events"
    with httpx2.Client(timeout=60, verify=False) as http, http.stream("GET", url, headers=headers) as answer:
        yield answer


def test_streams_beyond_the_limits_are_refused_in_words(running: System, valkey: ValkeyServer) -> None:
    """Of a key with 429, of the process with 503, and one line in the log; after they are closed, others are served."""
    run_id, first, second = new_run(running), new_key(running), new_key(running)
    with Redis.from_url(valkey.url, decode_responses=True) as redis, ExitStack() as stack:
        before = len(redis.client_list())
        answers = [stack.enter_context(watched(running, run_id, first)) for _ in range(5)]
        answers += [stack.enter_context(watched(running, run_id, second)) for _ in range(4)]
        for answer in answers:
            if answer.status_code != 200:
                answer.read()
        health = httpx2.get(f"{running.url}/healthz", timeout=60)
        headers = {"Authorization": f"Bearer {second}"}
        waiting = httpx2.get(f"{running.url}/v1/runs/{run_id}", params={"wait": 5}, headers=headers, timeout=60)
        opened = len(redis.client_list()) - before

        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429, 200, 200, 503, 503]
        assert [answers[n].json()["code"] for n in (3, 7)] == ["too_many_streams_of_key", "too_many_streams"]
        assert all(int(answers[n].headers["Retry-After"]) >= 1 for n in (3, 4, 7, 8))
        assert (waiting.status_code, health.status_code) == (503, 200)
        assert running.log("api").count("streams refused") == 1
        assert opened <= 5

    def is_served() -> bool:
        with watched(running, run_id, first) as answer:
            return answer.status_code == 200

    wait_until(is_served, description="another stream is served")


def test_streams_end_with_their_key(running: System) -> None:
    """Within two seconds of the key's end; the stream of another key goes on, and a wait is refused."""
    run_id, revoked, rotated, other = new_run(running), *(new_key(running) for _ in range(3))
    headers = {"Authorization": f"Bearer {revoked}"}
    with (
        watched(running, run_id, revoked) as first,
        watched(running, run_id, rotated) as second,
        watched(running, run_id, other) as third,
        ThreadPoolExecutor(3) as pool,
    ):
        url = f"{running.url}/v1/runs/{run_id}"
        waiting = pool.submit(httpx2.get, url, params={"wait": 50}, headers=headers, timeout=60)
        reading = [pool.submit(answer.read) for answer in (first, second)]
        lines = third.iter_lines()
        wait_until(lambda: "data:" in next(lines), description="the third stream has begun")
        with running.db.write() as tx:
            api_keys.revoke(tx, revoked.split("_")[1])
            api_keys.rotate(tx, rotated.split("_")[1], grace_s=0)
        ended_at = time.monotonic()
        texts = [each.result(timeout=60).decode() for each in reading]
        took_s = time.monotonic() - ended_at
        answer = waiting.result(timeout=60)
        wait_until(lambda: "still here" in next(lines), description="the third stream goes on")

    assert all(text.startswith("id: 0-1\nevent: run.queued") for text in texts)  # read to their end, in order
    assert took_s < 40, "not before the comments of a minute have come"
    assert (answer.status_code, answer.json()["code"]) == (401, "key_invalid")
