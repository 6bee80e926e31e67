"""What `doctor`, `/readyz` and the start of each process ask a broker: whether it can do all that is done with it.

It is connected to as the workers do, and each command that Celery or we use is sent once. What it returns contains no
address and no password.
"""

import hashlib
import re
import secrets
import ssl
import threading
from dataclasses import dataclass, replace
from typing import Any

from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.addresses import AddressError
from worker.addresses.broker import parse
from worker.clock import monotonic
from worker.domain import Problem
from worker.domain.problem import recognise
from worker.events.connections import connect
from worker.events.model_slots import TAKE

OLDEST = (6, 2)
TIMEOUT_S = 3.0
AGE_S = 1.0  # how long a process repeats an answer of `Prober`
# Names of Celery and kombu, which this room cannot import. A test compares them with what they are there.
QUEUES = ("resumed", "runs", "enqueue", "batch", "summaries")
SEPARATOR, STEPS = "\x06\x16", (3, 6, 9)
EXCHANGES = ("celery.pidbox", "reply.celery.pidbox", "celeryev")


NO_MEMORY = Problem(
    "broker_no_memory",
    "Its memory is full: it accepts no writes.",
    "Raise its maxmemory, or lower TEAM_SESSIONS_STREAM_SECONDS.",
    errors=(exceptions.OutOfMemoryError,),
)
TOO_OLD = Problem(
    "broker_too_old",
    "It does not know a command that is needed: it is too old, or the command is renamed.",
    "Upgrade it to Redis 6.2 or Valkey, or newer, without rename-command.",
    errors=(exceptions.ResponseError, exceptions.ConnectionError),
    signs=("unknown command", "unknown subcommand", "unsupported command", "syntax error"),
    lasting=True,
)
CLUSTER = Problem(
    "broker_cluster",
    "It is a Redis Cluster, which Celery cannot use.",
    "Name a server with cluster mode disabled in TEAM_SESSIONS_REDIS_URL.",
    errors=(exceptions.RedisError,),
    signs=("crossslot", "keys in request don't hash to the same slot", "moved ", "clusterdown", "cluster mode"),
    lasting=True,
)
FORBIDDEN = Problem(
    "broker_forbidden",
    "Its user lacks permissions.",
    "Grant it (ACL SETUSER) INFO and all commands that are not dangerous, on its keys and channels.",
    errors=(exceptions.NoPermissionError,),
    lasting=True,
)
ADDRESS = Problem(
    "broker_address",
    "Its address cannot be used.",
    "Write TEAM_SESSIONS_REDIS_URL as redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER] or rediss://….",
    errors=(ValueError,),
    lasting=True,
)
OTHER = Problem("broker_other", "It answers with an unknown error.", "See the log of the server.")
# The first that fits is taken: most of redis-py's errors are subclasses of ConnectionError or ResponseError.
PROBLEMS = (
    Problem(
        "broker_password",
        "It refuses the password, or requires one.",
        "Correct TEAM_SESSIONS_REDIS_URL: redis://[USER]:PASSWORD@HOST:PORT/NUMBER, special characters as %XX.",
        errors=(exceptions.AuthenticationError, exceptions.AuthorizationError),
        lasting=True,
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
        lasting=True,
    ),
    NO_MEMORY,
    FORBIDDEN,
    CLUSTER,
    Problem(
        "broker_no_database",
        "It has no database of this number.",
        "Correct the number at the end of TEAM_SESSIONS_REDIS_URL: most have 0 to 15, some only 0.",
        errors=(exceptions.ResponseError, exceptions.ConnectionError),
        signs=("db index", "invalid database", "out of range"),
        lasting=True,
    ),
    TOO_OLD,
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
        errors=(exceptions.ConnectionError, ssl.SSLError),
        signs=("ssl", "certificate"),
        lasting=True,
    ),
    Problem(
        "broker_tls_file",
        "A file or a directory that its address names for TLS cannot be read.",
        "Correct ssl_ca_certs, ssl_ca_path, ssl_certfile and ssl_keyfile in TEAM_SESSIONS_REDIS_URL.",
        errors=(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
        lasting=True,
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
    version: str | None  # None: its user may not ask
    policy: str | None  # maxmemory-policy; None: unknown
    filled: float | None


def probe(url: str, *, prefix: str) -> Broker | Problem:
    """Do what workers, API and Flower do, on keys that nothing else uses; describe the server, or say what fails."""
    try:
        with connect(url, timeout_s=TIMEOUT_S, retry=Retry(NoBackoff(), 0), decode_responses=True) as redis:
            broker = _describe(redis)
            if isinstance(broker, Broker):
                _use(redis, prefix=prefix, number=parse(url).database)
            return broker
    except exceptions.NoPermissionError as error:
        return _forbidden(str(error), prefix=prefix, number=parse(url).database)
    except (exceptions.RedisError, OSError, ValueError) as error:
        return _problem(error)


class Prober:
    """Probes one broker at most once a second, however often it is asked. Safe to use from several threads."""

    def __init__(self, url: str, *, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        self._lock = threading.Lock()
        self._probed_at = float("-inf")
        self._problem: Problem | None = None

    def problem(self) -> Problem | None:
        """Return why the broker cannot be used; None: it can."""
        with self._lock:
            if monotonic() - self._probed_at >= AGE_S:
                result = probe(self._url, prefix=self._prefix)
                self._problem = result if isinstance(result, Problem) else None
                self._probed_at = monotonic()
            return self._problem


def _describe(redis: Any) -> Broker | Problem:
    redis.ping()
    try:
        info: Any = redis.info()
    except exceptions.NoPermissionError:
        return Broker("Redis", None, None, None)  # nothing else needs INFO
    valkey = info.get("server_name") == "valkey"
    name = "Valkey" if valkey else "Redis"
    version = str(info.get("valkey_version" if valkey else "redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        expected = ".".join(map(str, OLDEST))
        return replace(TOO_OLD, sentence=f"It is {name} {version}; expected {expected} or newer.")
    if info.get("cluster_enabled"):
        return CLUSTER
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    return Broker(name, version, info.get("maxmemory_policy"), used / limit if limit else None)


def _use(redis: Any, *, prefix: str, number: int) -> None:
    """Send each command that Celery or we use.

    Raises:
        RedisError: the first error.
    """
    # The rights on the keys that are really used: a script that touches none of them.
    keys = _keys(prefix)
    redis.execute_command("EVAL", "return 0", len(keys), *keys)
    key = f"{prefix}run:probe-{secrets.token_hex(8)}:"
    texts, stream, slots = f"{key}texts", f"{key}events", f"{key}calls"
    commands: list[tuple[object, ...]] = [
        ("SET", texts, "x", "PX", 1000),
        ("GET", texts),
        ("DEL", texts),
        ("LPUSH", texts, "x", "x"),
        ("RPUSH", texts, "x"),
        ("PEXPIRE", texts, 1000),
        ("LLEN", texts),
        ("RPOP", texts),
        ("BRPOP", texts, "0.01"),
        ("DEL", texts),
        ("HSET", texts, "x", "x"),
        ("HGET", texts, "x"),
        ("HDEL", texts, "x"),
        ("ZADD", texts, 1, "x"),
        ("ZRANGE", texts, "+inf", 0, "BYSCORE", "REV", "LIMIT", 0, 1),
        ("ZREM", texts, "x"),
        ("SADD", texts, "x"),
        ("SMEMBERS", texts),
        ("SREM", texts, "x"),
        ("EXISTS", texts),
        ("WATCH", texts),
        ("MULTI",),
        ("EXEC",),
        ("XADD", stream, "*", "x", "x"),
        ("EXPIRE", stream, 1),
        ("XREAD", "COUNT", 1, "STREAMS", stream, "0-0"),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("DEL", stream),
        ("SCRIPT", "LOAD", TAKE),
        ("EVALSHA", hashlib.sha1(TAKE.encode()).hexdigest(), 1, slots, 1, 1, "x"),  # noqa: S324 - Redis uses it
        ("ZREM", slots, "x"),
        ("PUBLISH", f"{prefix}/{number}.celeryev/probe", ""),  # receivers skip a message without content
    ]
    pipeline = redis.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    for answer in pipeline.execute(raise_on_error=False):
        if isinstance(answer, exceptions.RedisError):
            raise answer
    with redis.pubsub() as channels:
        channels.psubscribe(*_channels(prefix, number))
        channels.get_message(timeout=TIMEOUT_S)


def _keys(prefix: str) -> list[str]:
    """Return one key of each kind that Celery or we use."""
    queues = [f"{queue}{step}" for queue in QUEUES for step in ("", *(f"{SEPARATOR}{n}" for n in STEPS))]
    bindings = [f"_kombu.binding{kind}.{name}" for kind in ("", "_permanent") for name in (*QUEUES, *EXCHANGES)]
    celery = ["unacked", "unacked_index", "unacked_mutex", "_kombu.binding_deadlines", "x.reply.celery.pidbox"]
    ours = ["run:probe:events", "run:probe:slot", "model:probe:calls"]
    return [prefix + name for name in (*queues, *bindings, *celery, *ours)]


def _channels(prefix: str, number: int) -> tuple[str, str]:
    """Return the patterns to which workers and Flower subscribe. An ACL must allow them literally."""
    return f"{prefix}/{number}.celery.pidbox", f"{prefix}/{number}.celeryev/*"


def _forbidden(text: str, *, prefix: str, number: int) -> Problem:
    command = re.search(r"'([a-z|]+)' (?:sub)?command", text.lower())
    if command:
        lacking = f"run the command {command.group(1).upper()!r}"
    else:
        lacking = "use the channels of Celery" if "channel" in text.lower() else "use the keys of Team Sessions"
    channels = " ".join(f"'&{channel}'" for channel in _channels(prefix, number))
    rules = f"'~{prefix}*' {channels} +@all -@admin -@dangerous +info"
    return replace(FORBIDDEN, sentence=f"Its user may not {lacking}.", advice=f"ACL SETUSER NAME {rules}")


def _problem(error: Exception) -> Problem:
    if isinstance(error, AddressError):
        return replace(ADDRESS, sentence=f"Its address cannot be used: {error}.")
    return recognise(PROBLEMS, error, str(error)) or OTHER
