"""The watchers of a process share one connection and one read, and none of them is in another's way."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from tests.support.valkey import ValkeyServer
from worker.domain import Event, EventId
from worker.domain.event import QUEUED_ID
from worker.events import follow as following
from worker.events.follow import PAGES_AT_ONCE, Follower

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


def wait(
    follower: Follower, *, run_id: str = RUN, after: EventId = QUEUED_ID, wait_s: float = LONG_S
) -> "asyncio.Task[list[tuple[EventId, Event]]]":
    """Return a watcher that waits for what comes next, behind `run.queued` if nothing is said."""
    return asyncio.create_task(follower.read(run_id, after=after, wait_s=wait_s))


async def until_one_waits(redis: "Redis[Any]") -> None:
    """Return once the broker holds back an answer."""
    await until(lambda: redis.info("clients")["blocked_clients"])


def start_the_run(redis: "Redis[Any]", run_id: str = RUN, *, id: str = "1-1") -> None:
    """Put an event into the stream, as a worker does."""
    redis.xadd(f"run:{run_id}:events", {"type": "run.started", "data": '{"run_id": "run_1", "attempt": 1}'}, id=id)
    redis.expire(f"run:{run_id}:events", 60)


def connections(redis: "Redis[Any]") -> list[dict[str, str]]:
    """Return the broker's connections, but for the one that asks."""
    own = str(redis.client_id())
    return [client for client in redis.client_list() if client["id"] != own]


async def until(condition: Callable[[], object]) -> None:
    """Return once *condition* is true."""
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


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


def test_watchers_of_a_hundred_runs_share_one_connection(valkey: ValkeyServer) -> None:
    """One waits, a few bring the first pages, and each watcher is shown the events of its own run."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        before = len(connections(redis))
        runs = [f"run_{n}" for n in range(100)]
        watchers = [wait(follower, run_id=run) for run in runs for _ in range(3)]
        await until_one_waits(redis)
        opened = len(connections(redis)) - before
        for n, run in enumerate(runs):
            start_the_run(redis, run, id=f"1-{n + 1}")
        shown = await asyncio.gather(*watchers)

        assert opened <= 1 + PAGES_AT_ONCE
        assert [id for ((id, _event),) in shown] == [EventId(1, n + 1) for n in range(100) for _ in range(3)]

    follow(valkey, act)


def test_a_new_watcher_does_not_wait_for_the_end_of_a_read(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read that is under way would last a minute, and does not name its stream."""
    monkeypatch.setattr(following, "BLOCK_S", 60.0)

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        first = wait(follower)
        await until_one_waits(redis)
        second = wait(follower, run_id="run_2")
        await until(lambda: "run_2" in follower._streams)
        start_the_run(redis, "run_2")

        assert await second == [STARTED]
        assert not first.done()
        first.cancel()

    follow(valkey, act)


def test_a_watcher_that_is_behind_is_shown_what_it_missed(valkey: ValkeyServer) -> None:
    """While it sent an event, the reader has read on for the other watcher."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        for n in range(1, 4):
            watcher = wait(follower, after=EventId(1, n - 1))
            await until(lambda: RUN in follower._streams)
            start_the_run(redis, id=f"1-{n}")
            await watcher

        shown = await wait(follower)

        assert [id for id, _event in shown] == [EventId(1, n) for n in range(1, 4)]

    follow(valkey, act)


def test_a_lost_connection_loses_no_event(valkey: ValkeyServer) -> None:
    """The reader's connection is cut; it connects again, and reads on where it was."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        watcher = wait(follower)
        await until_one_waits(redis)
        for client in connections(redis):
            redis.client_kill_filter(_id=client["id"])
        start_the_run(redis)

        assert await watcher == [STARTED]

    follow(valkey, act)


def test_what_is_no_event_is_left_out(valkey: ValkeyServer) -> None:
    """Whoever writes to the broker ends no watcher's stream with it."""

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        watcher = wait(follower)
        await until_one_waits(redis)
        redis.xadd(f"run:{RUN}:events", {"what": "?"}, id="0-5")
        redis.xadd(f"run:{RUN}:events", {"type": "run.started", "data": "{"}, id="0-6")
        start_the_run(redis)

        assert await watcher == [STARTED]

    follow(valkey, act)


def test_no_connection_and_no_task_stays_behind(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All watchers leave before their first event; soon nothing waits for them."""
    monkeypatch.setattr(following, "BLOCK_S", 0.1)
    monkeypatch.setattr(following, "KEPT_S", 0.1)
    monkeypatch.setattr(following, "LINGER_S", 0.1)

    async def act(follower: Follower, redis: "Redis[Any]") -> None:
        watchers = [wait(follower, run_id=f"run_{n}") for n in range(20)]
        await until_one_waits(redis)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.wait(watchers)

        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert not [client for client in connections(redis) if client["cmd"] == "xread"]
        assert not follower._streams

    follow(valkey, act)


def test_a_watcher_can_leave_at_any_moment(valkey: ValkeyServer) -> None:
    """Also while its first connection is made: no watcher goes on in secret."""

    async def act(_follower: Follower, redis: "Redis[Any]") -> None:
        for steps in range(60):
            follower = Follower(valkey.url, prefix="")
            watcher = wait(follower, wait_s=600)
            for _ in range(steps):
                await asyncio.sleep(0)
            watcher.cancel()
            await asyncio.wait([watcher], timeout=LONG_S)
            await follower.close()

            assert watcher.cancelled(), f"after {steps} steps"

    follow(valkey, act)
