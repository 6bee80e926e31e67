"""Watchers of one run share what is read of its stream, and none of them is in another's way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis import Redis

from tests.support.valkey import ValkeyServer
from worker.domain import Event, EventId
from worker.domain.event import QUEUED_ID
from worker.events.follow import Follower

RUN, LONG_S = "run_1", 20.0
STARTED: tuple[EventId, Event] = (EventId(1, 1), Event("run.started", {"run_id": RUN, "attempt": 1}))


def follow(valkey: ValkeyServer, act: Callable[[Follower, "Redis[Any]"], Awaitable[None]]) -> None:
    """Do something with a follower and a broker that nothing has asked for a stream yet."""

    async def go() -> None:
        follower = Follower(valkey.url, prefix="")
        with Redis.from_url(valkey.url, decode_responses=True) as redis:
            redis.config_resetstat()
            try:
                await act(follower, redis)
            finally:
                await follower.close()

    asyncio.run(go())


def wait(follower: Follower, *, wait_s: float = LONG_S) -> "asyncio.Task[list[tuple[EventId, Event]]]":
    """Return a watcher that stands behind `run.queued` and waits for what comes next."""
    return asyncio.create_task(follower.read(RUN, after=QUEUED_ID, wait_s=wait_s))


async def until_one_waits(redis: "Redis[Any]") -> None:
    """Return once the broker holds back an answer."""
    async with asyncio.timeout(LONG_S):
        while not redis.info("clients")["blocked_clients"]:
            await asyncio.sleep(0.01)


def start_the_run(redis: "Redis[Any]") -> None:
    """Put an event into the stream, as a worker does."""
    redis.xadd(f"run:{RUN}:events", {"type": "run.started", "data": '{"run_id": "run_1", "attempt": 1}'}, id="1-1")
    redis.expire(f"run:{RUN}:events", 60)


def test_fifty_watchers_of_a_run_cost_the_broker_one_read(valkey: ValkeyServer) -> None:
    """All of them are shown what it brought."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        watchers = [wait(follower) for _ in range(50)]
        await until_one_waits(redis)
        start_the_run(redis)
        shown = await asyncio.gather(*watchers)

        assert shown == [[STARTED]] * 50
        assert redis.info("commandstats")["cmdstat_xread"]["calls"] == 1

    follow(valkey, act)


def test_a_watcher_that_leaves_ends_nobody_elses_read(valkey: ValkeyServer) -> None:
    """The one whose read it was closes its page; the other is shown the next event all the same."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        first, second = wait(follower), wait(follower)
        await until_one_waits(redis)
        first.cancel()
        await asyncio.wait([first])
        start_the_run(redis)
        shown = await second

        assert first.cancelled()
        assert shown == [STARTED]
        assert redis.info("commandstats")["cmdstat_xread"]["calls"] == 1

    follow(valkey, act)


def test_a_watcher_waits_no_longer_than_it_wanted_to(valkey: ValkeyServer) -> None:
    """It shares the read of one who waits longer, leaves with nothing, and the other goes on waiting."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        patient = wait(follower)
        await until_one_waits(redis)
        hasty = await wait(follower, wait_s=0.05)
        waited_on = not patient.done()
        start_the_run(redis)

        assert (hasty, waited_on) == ([], True)
        assert await patient == [STARTED]

    follow(valkey, act)


def test_a_watcher_waits_as_long_as_it_wanted_to(valkey: ValkeyServer) -> None:
    """It shares the read of one who waits less long, and asks again when that has ended with nothing."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        hasty = wait(follower, wait_s=0.05)
        patient = wait(follower)
        nothing = await hasty
        await until_one_waits(redis)
        start_the_run(redis)

        assert nothing == []
        assert await patient == [STARTED]

    follow(valkey, act)
