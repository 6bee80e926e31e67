"""The only place that makes connections to Redis, beside Celery's: the same address, with the options of its use."""

from typing import Any

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis

from worker.addresses.broker import parse


def connect(url: str, *, timeout_s: float, **options: Any) -> Redis:
    """Return a client; it connects at its first command. No answer within *timeout_s* is an error.

    Raises:
        AddressError: the address cannot be used.
    """
    address = parse(url)
    timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    client: Redis = Redis.from_url(address.url, **address.options, **timeouts, **options)
    return client


def connect_async(url: str, *, size: int, wait_s: float, **options: Any) -> AsyncRedis:
    """Return an asynchronous client of *size* connections, for one of which a command waits up to *wait_s*.

    It connects at its first command, whose time the caller limits.

    Raises:
        AddressError: the address cannot be used.
    """
    address = parse(url)
    pool = BlockingConnectionPool.from_url(
        address.url, max_connections=size, timeout=wait_s, **address.options, **options
    )
    client: AsyncRedis = AsyncRedis.from_pool(pool)
    return client
