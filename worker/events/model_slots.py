"""At most so many calls to one model at the same time, by all processes together.

Each call takes a place in a sorted set of Redis, by its model: a token with the time until which it is kept there, on
Redis's own clock. A thread keeps the places of this process; those of a process that was killed run out. Whoever finds
none free stands in line, in each process first come, first served, and one of a process asks Redis for all behind it.
While Redis is away a process counts its own calls alone.
"""

import secrets
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis import Redis
from redis.exceptions import RedisError

from worker import clock
from worker.domain.stop import Stop
from worker.errors import ModelBusy
from worker.observe import logs

KEPT_S = 15.0  # how long the place of a killed process is kept
LOOK_S = 0.1  # between two looks for a free place
PATIENCE_S = 10.0  # then the run gives its slot to others, and comes back
PAUSE_S = 1.0  # a process whose call failed leaves Redis alone for so long

# KEYS: the model's places. ARGV: seconds that they are kept, how many there are at most, then tokens. Takes or keeps
# the places of the tokens, as far as they go, and answers how many it did.
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
class _Line:
    """The calls of this process to one model: those that have a place, and those in line for one."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    placed: set[str] = field(default_factory=set)
    waiting: deque[str] = field(default_factory=deque)


class ModelSlots:
    """The places of this process. *limit* 0: there are as many as anybody wants, and Redis is not asked."""

    def __init__(self, url: str | None, *, prefix: str, limit: int) -> None:
        self._limit = limit
        self._prefix = prefix
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)
        self._away_until = 0.0
        self._closing = threading.Event()
        self._redis: Redis | None = None
        if url is not None and limit:
            self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
            self._thread = threading.Thread(target=self._keep_forever, name="places", daemon=True)
            self._thread.start()

    @contextmanager
    def slot(self, model: str, *, stop: Stop) -> Iterator[None]:
        """Hold a place at *model* inside the block; wait for one first.

        Raises:
            ModelBusy: there was none for ten seconds.
            Stopped: the run was told to stop, or shall be handed over, while it waited.
        """
        if not self._limit:
            yield
            return
        line, token = self._lines[model], secrets.token_hex(8)
        self._wait(model, line, token, stop)
        try:
            yield
        finally:
            with line.changed:
                line.placed.discard(token)
                line.changed.notify_all()
            self._give_back(model, token)

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._redis is not None:
            self._thread.join(timeout=5)
            self._redis.close()

    def _wait(self, model: str, line: _Line, token: str, stop: Stop) -> None:
        until = clock.monotonic() + PATIENCE_S
        with line.changed:
            line.waiting.append(token)
        try:
            while not self._taken(model, line, token):
                stop.check(boundary=True)
                if clock.monotonic() > until:
                    raise ModelBusy(model=model, limit=self._limit)
                with line.changed:
                    line.changed.wait(LOOK_S)
        finally:
            with line.changed:
                line.waiting.remove(token)
                line.changed.notify_all()

    def _taken(self, model: str, line: _Line, token: str) -> bool:
        """Take a place, if this call is the first in line and one is free."""
        with line.changed:
            if line.waiting[0] != token or len(line.placed) >= self._limit:
                return False
        if self._ask(model, [token]) == 0:
            return False
        with line.changed:
            line.placed.add(token)
        return True

    def _ask(self, model: str, tokens: list[str]) -> int | None:
        """Take or keep places; return how many could be had. None: Redis is away, or is not used."""
        redis = self._reachable()
        if redis is None:
            return None
        try:
            return int(redis.eval(TAKE, 1, self._key(model), KEPT_S, self._limit, *tokens))
        except RedisError as error:
            self._away_until = clock.monotonic() + PAUSE_S
            log.warning("model calls are counted by this process alone: Redis is away", error=error)
            return None

    def _give_back(self, model: str, token: str) -> None:
        redis = self._reachable()
        if redis is None:
            return
        try:
            redis.zrem(self._key(model), token)
        except RedisError:  # the place runs out by itself
            self._away_until = clock.monotonic() + PAUSE_S

    def _reachable(self) -> Redis | None:
        return None if clock.monotonic() < self._away_until else self._redis

    def _key(self, model: str) -> str:
        return f"{self._prefix}model:{model}:calls"

    def _keep_forever(self) -> None:
        while not self._closing.wait(KEPT_S / 3):
            for model, line in list(self._lines.items()):
                with line.changed:
                    tokens = sorted(line.placed)
                if tokens:
                    self._ask(model, tokens)
