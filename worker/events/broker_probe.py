"""What `team-sessions doctor` asks a broker: what it is, what it evicts, and whether it can be written.

What it returns contains no address and no password.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.domain import Problem
from worker.domain.problem import recognise

OLDEST = (6, 2)
TIMEOUT_S = 3.0


NO_MEMORY = Problem(
    "broker_no_memory",
    "Its memory is full: it accepts no writes.",
    "Raise its maxmemory, or lower TEAM_SESSIONS_STREAM_SECONDS.",
    errors=(exceptions.OutOfMemoryError,),
)
OTHER = Problem("broker_other", "It answers with an unknown error.", "See the log of the server.")
# The first that fits is taken: most of redis-py's errors are subclasses of ConnectionError or ResponseError.
PROBLEMS = (
    Problem(
        "broker_password",
        "It refuses the password, or requires one.",
        "Correct TEAM_SESSIONS_REDIS_URL: redis://[USER]:PASSWORD@HOST:PORT/NUMBER, special characters as %XX.",
        errors=(exceptions.AuthenticationError, exceptions.AuthorizationError),
    ),
    Problem(
        "broker_loading",
        "It is still loading its data.",
        "Wait. Accepted runs are kept until it is ready.",
        errors=(exceptions.BusyLoadingError,),
    ),
    Problem(
        "broker_read_only",
        "It is a read-only replica.",
        "Name the primary in TEAM_SESSIONS_REDIS_URL; after a failover, the new one.",
        errors=(exceptions.ReadOnlyError,),
    ),
    NO_MEMORY,
    Problem(
        "broker_forbidden",
        "Its user lacks permissions.",
        "Grant it (ACL SETUSER) INFO and all commands that are not dangerous, on its keys.",
        errors=(exceptions.NoPermissionError,),
    ),
    Problem(
        "broker_cannot_save",
        "It cannot save to its disk (MISCONF), and accepts no writes until it can.",
        "Free space on its disk and read its log; or CONFIG SET save '': Team Sessions does not need its persistence.",
        errors=(exceptions.ResponseError,),
        signs=("misconf", "unable to persist"),
    ),
    Problem(
        "broker_timeout",
        "It does not answer: it is frozen, paused or overloaded, or the network drops packets.",
        "Check that its process runs, and what it does: redis-cli --latency, SLOWLOG GET.",
        errors=(exceptions.TimeoutError,),
    ),
    Problem(
        "broker_tls",
        "No encrypted connection could be made.",
        "Write rediss:// if it uses TLS, and name a private certificate authority: ?ssl_ca_certs=FILE.",
        errors=(exceptions.ConnectionError,),
        signs=("ssl", "certificate"),
    ),
    Problem(
        "broker_unknown_host",
        "The host of its address cannot be resolved.",
        "Correct the host of TEAM_SESSIONS_REDIS_URL, or the name resolution of this machine.",
        errors=(exceptions.ConnectionError,),
        signs=("resolve", "name or service", "no address", "nodename"),
    ),
    Problem(
        "broker_refused",
        "No server listens at its address.",
        "Start it, or correct host and port of TEAM_SESSIONS_REDIS_URL. Accepted runs are kept, and wait.",
        errors=(exceptions.ConnectionError,),
    ),
)


@dataclass(frozen=True, slots=True)
class Broker:
    """What a broker is. `filled`: the share of its memory in use; None: unlimited or unknown."""

    name: str
    version: str
    too_old: bool
    policy: str | None  # maxmemory-policy; None: unknown
    filled: float | None
    write: Problem | None  # why it accepts no writes


def probe(url: str, *, prefix: str) -> Broker | Problem:
    """Connect, describe the server, and write a key that expires; or return why that is not possible."""
    try:
        with Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as redis:
            redis.ping()
            return _describe(redis.info(), write=_try_write(redis, f"{prefix}doctor:{secrets.token_hex(8)}"))
    except (exceptions.RedisError, OSError, ValueError) as error:
        return _problem(error)


def _describe(info: Any, *, write: Problem | None) -> Broker:
    valkey = info.get("server_name") == "valkey"
    version = str(info.get("valkey_version" if valkey else "redis_version", "0.0"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    return Broker(
        name="Valkey" if valkey else "Redis",
        version=version,
        too_old=tuple(int(part) for part in version.split(".")[:2]) < OLDEST,
        policy=info.get("maxmemory_policy"),
        filled=used / limit if limit else None,
        write=write,
    )


def _try_write(redis: Redis, key: str) -> Problem | None:
    try:
        redis.set(key, "", px=1000)
    except exceptions.RedisError as error:
        return _problem(error)
    return None


def _problem(error: Exception) -> Problem:
    return recognise(PROBLEMS, error, str(error)) or OTHER
