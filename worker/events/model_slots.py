"""Limits the concurrent calls to one model across all processes.

Each call takes a slot: a token in the model's sorted set in Redis, with its expiry on Redis's own clock. A thread
renews the slots of this process; those of a killed process expire. Within a process, calls wait in order, and only the
first one polls Redis. While Redis is away, a process counts its own calls only.
"""

import secrets
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import RedisError

from worker import clock
from worker.domain import Stop
from worker.errors import ModelBusy
from worker.events import slot_key
from worker.events.connections import connect
from worker.observe import logs
from worker.ticker import Ticker

SLOT_TTL_S = 15.0  # how long a killed process keeps its slot
POLL_S = 0.1  # between two polls for a free slot
MAX_WAIT_S = 10.0  # then the run frees its place in the worker, and is tried again later
PAUSE_S = 1.0  # how long a process leaves Redis alone after a failed call
NOTE_S = 3  # how long the note of a run that waits for a slot is kept; it is renewed each third of that

# KEYS: the model's slots. ARGV: their lifetime in seconds, the limit, then tokens. Takes or renews a slot for each
# token while there are free ones, and returns how many succeeded.
TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local taken = 0
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) or redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
    taken = taken + 1
  end
end
redis.call('EXPIRE', KEYS[1], 2 * ARGV[1])
return taken
"""

log = logs.get(__name__)


@dataclass(slots=True)
class _Calls:
    """The calls of this process to one model: those that have a slot, and those that wait for one."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    running: set[str] = field(default_factory=set)
    waiting: deque[str] = field(default_factory=deque)


class ModelSlots:
    """The slots of this process. *limit* 0: no limit, and no use of Redis."""

    def __init__(self, url: str | None, *, prefix: str, limit: int) -> None:
        self._limit = limit
        self._prefix = prefix
        self._calls: defaultdict[str, _Calls] = defaultdict(_Calls)
        self._away_until = 0.0
        self._redis: Redis | None = None
        if url is not None and limit:
            self._redis = connect(url, timeout_s=2)
            self._ticker = Ticker("model slots", SLOT_TTL_S / 3, self._renew, failure="model slots were not renewed")

    @contextmanager
    def slot(self, model: str, *, stop: Stop, run_id: str | None = None) -> Iterator[None]:
        """Wait for a slot at *model*, and hold it inside the block. While *run_id* waits, `waits_for_slot` says so.

        Raises:
            ModelBusy: no slot was free for ten seconds.
            Stopped: the run was stopped or is to be handed over.
        """
        if not self._limit:
            yield
            return
        calls, token = self._calls[model], secrets.token_hex(8)
        self._wait(model, calls, token, stop, run_id)
        try:
            yield
        finally:
            with calls.changed:
                calls.running.discard(token)
                calls.changed.notify_all()
            self._free(model, token)

    def close(self) -> None:
        """Stop the thread."""
        if self._redis is not None:
            self._ticker.close()
            self._redis.close()

    def _wait(self, model: str, calls: _Calls, token: str, stop: Stop, run_id: str | None) -> None:
        until = clock.monotonic() + MAX_WAIT_S
        noted_at = float("-inf")
        with calls.changed:
            calls.waiting.append(token)
        try:
            while not self._take(model, calls, token):
                stop.check(boundary=True)
                if clock.monotonic() > until:
                    raise ModelBusy(model=model, limit=self._limit)
                if run_id is not None and clock.monotonic() - noted_at >= NOTE_S / 3:
                    noted_at = clock.monotonic()
                    self._note(lambda redis: redis.set(slot_key(self._prefix, run_id), model, ex=NOTE_S))
                with calls.changed:
                    calls.changed.wait(POLL_S)
        finally:
            with calls.changed:
                calls.waiting.remove(token)
                calls.changed.notify_all()
            if run_id is not None and noted_at > 0:
                self._note(lambda redis: redis.delete(slot_key(self._prefix, run_id)))

    def _take(self, model: str, calls: _Calls, token: str) -> bool:
        """Take a slot, if this call is the first that waits and one is free."""
        with calls.changed:
            if calls.waiting[0] != token or len(calls.running) >= self._limit:
                return False
        if self._take_or_renew(model, [token]) == 0:
            return False
        with calls.changed:
            calls.running.add(token)
        return True

    def _take_or_renew(self, model: str, tokens: list[str]) -> int | None:
        """Take or renew slots; return how many succeeded. None: Redis is away, or is not used."""
        redis = self._reachable()
        if redis is None:
            return None
        try:
            return int(redis.eval(TAKE, 1, self._key(model), SLOT_TTL_S, self._limit, *tokens))
        except RedisError as error:
            self._away_until = clock.monotonic() + PAUSE_S
            log.warning("Redis is away: this process counts its own model calls only", error=error)
            return None

    def _free(self, model: str, token: str) -> None:
        self._note(lambda redis: redis.zrem(self._key(model), token))

    def _note(self, write: Callable[[Redis], object]) -> None:
        """Write to Redis if it is there. Otherwise the slot, or the note of a run that waits, expires."""
        redis = self._reachable()
        if redis is None:
            return
        try:
            write(redis)
        except RedisError:
            self._away_until = clock.monotonic() + PAUSE_S

    def _reachable(self) -> Redis | None:
        return None if clock.monotonic() < self._away_until else self._redis

    def _key(self, model: str) -> str:
        return f"{self._prefix}model:{model}:calls"

    def _renew(self) -> None:
        for model, calls in list(self._calls.items()):
            with calls.changed:
                tokens = sorted(calls.running)
            if tokens:
                self._take_or_renew(model, tokens)


def waits_for_slot(url: str, run_id: str, *, prefix: str) -> str | None:
    """Return the model for one of whose slots a run waits; None: it does not, or Redis is away."""
    with connect(url, timeout_s=1, decode_responses=True) as redis:
        try:
            model = redis.get(slot_key(prefix, run_id))
        except RedisError:
            return None
    return None if model is None else str(model)
