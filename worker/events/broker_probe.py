"""How a broker stands, seen from outside: what it is, what it does when its memory is full, whether it can be written.

For `team-sessions doctor`. No address or password is in what it returns.
"""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer
from redis.retry import Retry

OLDEST = (6, 2)
WAIT_S = 3.0


class Trouble(StrEnum):
    """What keeps a broker from serving us."""

    REFUSED = "refused"  # nobody listens there
    UNKNOWN_HOST = "unknown_host"
    PASSWORD = "password"  # noqa: S105 - a kind, and no password
    TIMEOUT = "timeout"
    TLS = "tls"
    LOADING = "loading"
    READ_ONLY = "read_only"  # a replica
    CANNOT_SAVE = "cannot_save"  # it cannot write to its disk, and takes no writes until it can
    NO_MEMORY = "no_memory"
    FORBIDDEN = "forbidden"  # its user may not do what we do
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Broker:
    """What a broker is. `filled`: the share of its memory that is used; None: it has no bound, or does not tell."""

    name: str
    version: str
    too_old: bool
    policy: str | None  # maxmemory-policy; None: it does not tell
    filled: float | None
    write: Trouble | None  # what keeps it from taking a write


def examine(url: str, *, prefix: str) -> Broker | Trouble:
    """Connect, ask what it is, and write a key that goes by itself; or say what keeps it from answering."""
    try:
        with Redis.from_url(
            url,
            socket_timeout=WAIT_S,
            socket_connect_timeout=WAIT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as redis:
            redis.ping()
            return _described(redis.info(), write=_write(redis, f"{prefix}doctor:{secrets.token_hex(8)}"))
    except (RedisError, OSError, ValueError) as error:
        return _trouble(error)


def _described(info: Any, *, write: Trouble | None) -> Broker:
    valkey = info.get("server_name") == "valkey"
    version = str(info.get("valkey_version" if valkey else "redis_version", "0.0"))
    bound, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    return Broker(
        name="Valkey" if valkey else "Redis",
        version=version,
        too_old=tuple(int(part) for part in version.split(".")[:2]) < OLDEST,
        policy=info.get("maxmemory_policy"),
        filled=used / bound if bound else None,
        write=write,
    )


def _write(redis: Redis, key: str) -> Trouble | None:
    try:
        redis.set(key, "", px=1000)
    except RedisError as error:
        return _trouble(error)
    return None


def _trouble(error: Exception) -> Trouble:
    said = str(error)
    match error:
        case AuthenticationError() | AuthorizationError():
            return Trouble.PASSWORD
        case BusyLoadingError():
            return Trouble.LOADING
        case ReadOnlyError():
            return Trouble.READ_ONLY
        case OutOfMemoryError():
            return Trouble.NO_MEMORY
        case NoPermissionError():
            return Trouble.FORBIDDEN
        case ResponseError() if "MISCONF" in said or "unable to persist" in said:
            return Trouble.CANNOT_SAVE
        case NoAnswer():
            return Trouble.TIMEOUT
        case NoConnection() if "SSL" in said or "certificate" in said.lower():
            return Trouble.TLS
        case NoConnection() if any(word in said for word in ("resolve", "Name or service", "No address", "nodename")):
            return Trouble.UNKNOWN_HOST
        case NoConnection():
            return Trouble.REFUSED
    return Trouble.OTHER
