"""A watcher whose connection is cut anywhere, and who comes back, is shown the whole, whatever breaks meanwhile."""

import asyncio
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select

from api_stub.client import AsyncClient, Retries
from tests.support import look
from tests.support.proxy import proxy
from tests.support.run_view import RunView
from tests.support.system import System, system
from tests.support.valkey import ValkeyServer
from worker.store.tables import runs

pytestmark = pytest.mark.processes

RUNS, WATCHERS = 40, 5  # of each run
STORIES = (
    ("plain", "[words=12] [pace=0.4] go"),
    ("plain", "[delay=1] [words=12] [pace=0.4] go"),
    ("with-tool", "[steps=2] [words=12] [pace=0.4] go"),
    ("leads", "[words=6] [pace=0.4] go [delegate=a] task: [words=6] [pace=0.4]"),
)
STUBBORN = Retries(count=20, pause_s=0.02)


async def watch(client: AsyncClient, run_id: str, shown: RunView, chance: random.Random) -> None:
    """Watch a run to its end; leave after a few events, and come back behind the last of them."""
    while not shown.ended:
        left = chance.randrange(1, 15)
        async with aclosing(client.stream(run_id, after=shown.last_id)) as events:
            async for event in events:
                shown.take(event)
                left -= 1
                if not left:
                    break


def check_whole(running: System, run: dict[str, Any], shown: RunView) -> None:
    """Check that the words shown are those of the history, each event came once, in order, and one ended the run."""
    places = [tuple(map(int, event.id.split("-"))) for event in shown.events]
    assert places == sorted(set(places))
    assert [event.type for event in shown.events if event.terminal] == [f"run.{run['status']}"]
    assert shown.events[-1].data == run
    written = [m.content for m in look.log(running.db, run["id"]) if m.role == "assistant"]
    assert sorted(shown.texts.values()) == sorted(written)


def busiest(running: System) -> "subprocess.Popen[bytes]":
    """Return the worker that holds most leases."""
    with running.db.read() as tx:
        owners = tx.execute(select(runs.c.lease_owner).where(runs.c.status == "running")).scalars()
        held = Counter(int(owner.split(":")[1]) for owner in owners)
    return max(running.workers, key=lambda worker: held[worker.pid])


async def watch_all(
    running: System,
    ids: list[str],
    *,
    url: str,
    seed: str,
    when: Callable[[list[RunView]], bool],
    then: Callable[[], None],
) -> list[RunView]:
    """Watch each run several times over; do *then* when what was shown is such that *when*."""
    shown = [RunView() for _ in range(len(ids) * WATCHERS)]
    async with AsyncClient(url, running.key, retries=STUBBORN) as client, asyncio.TaskGroup() as tasks:
        for n, one in enumerate(shown):
            tasks.create_task(watch(client, ids[n // WATCHERS], one, random.Random(f"{seed} {n}")))
        while not when(shown):
            await asyncio.sleep(0.02)
        await asyncio.to_thread(then)
    return shown


@pytest.mark.parametrize("lost", [pytest.param("worker", marks=pytest.mark.extended), "worker and streams"])
def test_streams_that_are_cut_anywhere_are_whole(running: System, valkey: ValkeyServer, lost: str) -> None:
    """200 streams are cut and left at random places while a worker is killed, and Redis loses all it held.

    With TEAM_SESSIONS_TEST_SEED the connections are cut behind the same numbers of bytes again.
    """
    seed = os.environ.get("TEAM_SESSIONS_TEST_SEED") or str(random.randrange(2**32))
    print(f"TEAM_SESSIONS_TEST_SEED={seed}")
    chance = random.Random(seed)
    running.start_workers(2, concurrency=RUNS)
    client = running.start_api()
    stories = [STORIES[n % len(STORIES)] for n in range(RUNS)]
    ids = [client.enqueue(team, text, session_id=f"s{n}", user_id="u")["id"] for n, (team, text) in enumerate(stories)]

    def some_are_told(shown: list[RunView]) -> bool:
        return sum(bool(one.texts) for one in shown) >= 20

    def break_it() -> None:
        if "streams" in lost:
            valkey.flush()
        busiest(running).kill()

    with proxy(running.url, iter(lambda: chance.randrange(200, 6000), None)) as cutting:
        watching = watch_all(running, ids, url=cutting.url, seed=seed, when=some_are_told, then=break_it)
        shown = asyncio.run(watching)

    ended = [dict(client.run(run_id)) for run_id in ids]
    assert {run["status"] for run in ended} == {"completed"}, "leaving cancels nothing"
    assert 2 in {run["attempt"] for run in ended}, "the worker had runs when it was killed"
    assert cutting.broken > len(shown) / 4
    for n, one in enumerate(shown):
        check_whole(running, ended[n // WATCHERS], one)


@pytest.mark.extended
def test_a_watcher_before_the_dispatch_and_one_behind_the_stream_are_told_all(
    tmp_path: Path, database_url: str
) -> None:
    """The broker is away when runs are accepted and watched; later the streams' lifetimes are over.

    One run completes, one is refused by its model at once, one after the retries that there are.
    """
    texts = ("[words=12] [pace=0.05] go", "[fail=400] go", "[fail=503] go")
    settings = {"TEAM_SESSIONS_MODEL_RETRIES": "1"}
    with (
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running,
    ):
        running.start_worker()
        client = running.start_api()

        def all_are_told(shown: list[RunView]) -> bool:
            return all(one.events for one in shown)

        valkey.kill()
        with ThreadPoolExecutor() as pool:
            ids = list(pool.map(lambda text: client.enqueue("plain", text, session_id=text, user_id="u")["id"], texts))
        watching = watch_all(running, ids, url=running.url, seed="0", when=all_are_told, then=valkey.start)
        shown = asyncio.run(watching)
        with Redis.from_url(valkey.url) as redis:
            keys = [f"run:{run_id}:events" for run_id in ids]
            lifetimes = [redis.ttl(key) for key in keys]
            redis.delete(*keys)
        late = asyncio.run(watch_all(running, ids, url=running.url, seed="1", when=all_are_told, then=bool))
        ended = [dict(client.run(run_id)) for run_id in ids]
        firsts = shown[::WATCHERS]
        rests = [list(client.stream(id, after=one.events[-2].id)) for id, one in zip(ids, firsts, strict=True)]

        assert [run["status"] for run in ended] == ["completed", "failed", "failed"]
        assert min(lifetimes) > 0
        for n, (one, later) in enumerate(zip(shown, late, strict=True)):
            check_whole(running, ended[n // WATCHERS], one)
            check_whole(running, ended[n // WATCHERS], later)
        for one, rest in zip(firsts, rests, strict=True):
            assert [event for event in rest if event.terminal] == one.events[-1:]
