"""Outages of the broker."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from ops.chaos.outages.registry import outage
from ops.chaos.system import Fleet, thaw
from worker.queue.embedded import free_port


@outage("broker")
def stopped_broker(fleet: Fleet) -> Iterator[None]:
    """The broker ends, with everything in it."""
    fleet.valkey.kill()
    yield
    fleet.valkey.start()


@outage("broker")
def frozen_broker(fleet: Fleet) -> Iterator[None]:
    """The broker accepts connections and answers nothing (SIGSTOP)."""
    os.kill(fleet.valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        thaw(fleet.valkey.pid)


@outage("broker")
def paused_broker(fleet: Fleet) -> Iterator[None]:
    """CLIENT PAUSE: the broker answers PING and what reads, and lets everything that writes wait, BRPOP too."""
    with Redis.from_url(fleet.valkey.url) as redis:
        redis.execute_command("CLIENT", "PAUSE", "600000", "WRITE")
        yield
        redis.execute_command("CLIENT", "UNPAUSE")


@outage("broker")
def broker_cannot_save(fleet: Fleet) -> Iterator[None]:
    """The broker refuses writes since it cannot save (MISCONF)."""
    with Redis.from_url(fleet.valkey.url) as redis:
        shutil.rmtree(fleet.valkey.directory)
        redis.config_set("save", "3600 1")
        with suppress(RedisError):
            redis.bgsave()
        yield
        fleet.valkey.directory.mkdir()
        redis.config_set("save", "")


@outage("broker")
def broker_without_memory(fleet: Fleet) -> Iterator[None]:
    """The broker refuses what needs memory (OOM)."""
    with Redis.from_url(fleet.valkey.url) as redis:
        redis.config_set("maxmemory", "1")
        yield
        redis.config_set("maxmemory", "0")


@outage("broker")
def read_only_broker(fleet: Fleet) -> Iterator[None]:
    """The broker refuses writes, as a replica does after a failover (READONLY)."""
    with Redis.from_url(fleet.valkey.url) as redis:
        redis.replicaof("127.0.0.1", free_port())
        yield
        redis.replicaof("NO", "ONE")
