"""What Redis refuses is counted and logged, and sent again where that can help. An old id is none of it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from tests.support.system import wait_until
from tests.support.valkey import ValkeyServer
from worker.domain import Event
from worker.events.publish import Publisher, RunStream
from worker.observe import metrics


@pytest.fixture
def redis(valkey: ValkeyServer) -> Iterator["Redis[Any]"]:
    with Redis.from_url(valkey.url, decode_responses=True) as made:
        yield made
        made.config_set("maxmemory", 0)


@pytest.fixture
def publisher(valkey: ValkeyServer) -> Iterator[Publisher]:
    made = Publisher(valkey.url, prefix="", ttl_s=60)
    yield made
    made.close()


def refused(error: str) -> float:
    return metrics.EVENTS_REFUSED.labels(error)._value.get()


def streamed(redis: "Redis[Any]", run_id: str) -> list[int]:
    return [json.loads(fields["data"])["n"] for _id, fields in redis.xrange(f"run:{run_id}:events")]


def test_events_that_a_full_redis_refuses_are_sent_again(redis: "Redis[Any]", publisher: Publisher) -> None:
    """In their order, once there is room."""
    before = refused("OutOfMemoryError")
    redis.config_set("maxmemory", 1)
    stream = RunStream(publisher, "run_1", fence=1)
    for n in range(3):
        stream.publish(Event("x", {"n": n}))
    wait_until(lambda: refused("OutOfMemoryError") > before, description="the refusal is counted")
    redis.config_set("maxmemory", 0)

    wait_until(lambda: streamed(redis, "run_1") == [0, 1, 2], description="the events are there")


def test_one_stream_that_cannot_be_written_holds_up_no_other(redis: "Redis[Any]", publisher: Publisher) -> None:
    """Its key is of another type. The refusal is counted; the events of other runs arrive."""
    before = refused("ResponseError")
    redis.set("run:run_1:events", "no stream", ex=60)
    for n in range(3):
        RunStream(publisher, "run_1", fence=n + 1).publish(Event("x", {"n": n}))
        RunStream(publisher, "run_2", fence=n + 1).publish(Event("x", {"n": n}))

    wait_until(lambda: streamed(redis, "run_2") == [0, 1, 2], description="the other run's events are there")
    assert refused("ResponseError") >= before + 3


def test_an_old_id_is_no_refusal(redis: "Redis[Any]", publisher: Publisher) -> None:
    """A later claim has written, or the stream was erased."""
    before = refused("ResponseError")
    RunStream(publisher, "run_1", fence=2).publish(Event("x", {"n": 1}))
    RunStream(publisher, "run_1", fence=1).publish(Event("x", {"n": 2}))
    publisher.erase(["run_2"])
    RunStream(publisher, "run_2", fence=1).publish(Event("x", {"n": 3}))
    RunStream(publisher, "run_3", fence=1).publish(Event("x", {"n": 4}))

    wait_until(lambda: streamed(redis, "run_3") == [4], description="the last event is there")
    assert streamed(redis, "run_1") == [1]
    assert refused("ResponseError") == before
