"""A transaction that holds the row of one session keeps the requests of others from nothing."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psycopg
import pytest

from api_stub import turns
from tests.support.postgres import PostgresServer
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer
from worker.domain import RunOrder
from worker.errors import SessionLocked
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import teams

REQUESTS = 60  # more than the API has threads


@pytest.mark.extended
def test_requests_for_a_locked_session_take_no_thread_from_others(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    """They are refused in words, to be sent again; runs of other sessions are accepted meanwhile."""
    url = postgres.new_database()
    with system(tmp_path, database_url=url, redis_url=valkey.url) as running, ThreadPoolExecutor(REQUESTS) as pool:
        running.start_api()
        with running.db.write() as tx:
            teams.announce(tx, worker="w", versions={"plain": "1"}, queues=["runs"])
        run = enqueue(running.db, RunOrder("plain", "x", session_id="hot", user_id="u"), settings=Settings()).run
        headers = {"Authorization": f"Bearer {running.key}"}

        def send(path: str, **body: str) -> httpx2.Response:
            with httpx2.Client(base_url=running.url, headers=headers, timeout=120, verify=False) as http:
                return http.post(path, json=body)

        def post(session: str) -> httpx2.Response:
            return send("/v1/runs", team="plain", input="x", session_id=session, user_id="u")

        with psycopg.connect(url.replace("+psycopg", "")) as holder:
            holder.execute("SELECT pk FROM team_sessions.sessions WHERE session_id = 'hot' FOR UPDATE")
            begun = time.monotonic()
            hot = [pool.submit(post, "hot") for _ in range(REQUESTS // 2)]
            hot += [pool.submit(send, f"/v1/runs/{run.id}/cancel") for _ in range(REQUESTS // 2)]
            answers = [post(f"cold-{n}") for n in range(10)]
            still_locked = [each for each in hot if not each.done()]
            took_s = time.monotonic() - begun
            refused = [each.result() for each in hot]
        wait_until(lambda: post("hot").status_code == 202, description="the session is served again")
    postgres.drop(url)

    assert [answer.status_code for answer in answers] == [202] * 10
    assert still_locked or took_s > 5
    assert {answer.status_code for answer in refused} == {503}
    assert "session_locked" in {answer.json()["code"] for answer in refused}
    assert all(answer.json()["retry"] and answer.headers["Retry-After"] for answer in refused)


def test_only_a_few_requests_wait_for_one_row_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused if none of them ends in time; requests for another row are not; nothing stays behind."""
    monkeypatch.setattr(turns, "WAIT_S", 0.1)

    async def act() -> None:
        made, end, inside = turns.Turns(), asyncio.Event(), []

        async def request(row: str) -> None:
            async with made.at("session", row):
                inside.append(row)
                await end.wait()

        first = [asyncio.create_task(request("hot")) for _ in range(turns.AT_ONCE + 2)]
        other = asyncio.create_task(request("cold"))
        async with asyncio.timeout(60):
            while len(refused := {each for each in first if each.done()}) < 2:
                await asyncio.sleep(0.01)
        assert all(isinstance(each.exception(), SessionLocked) for each in refused)
        assert sorted(inside) == ["cold", *["hot"] * turns.AT_ONCE]
        end.set()
        await asyncio.gather(other, *(each for each in first if each not in refused))
        await request("hot")
        assert not made._rows

    asyncio.run(act())
