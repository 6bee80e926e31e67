"""Removes the event streams of erased runs, so that a late writer cannot restore them."""

from collections.abc import Iterable
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.domain.event import ERASED
from worker.events import stream_key
from worker.events.connections import connect
from worker.observe import logs

HIGHEST = f"{2**64 - 1}-{2**64 - 1}"

log = logs.get(__name__)


class Eraser:
    """Erases streams on one Redis. Safe to use from several threads."""

    def __init__(self, url: str, *, prefix: str, ttl_s: int) -> None:
        # A restart of the server closes the connection: retry once, on a new one. Do not retry after a timeout,
        # because the caller of the deletion is waiting.
        retry = Retry(NoBackoff(), 1, supported_errors=(Disconnected,))
        self._redis = connect(url, timeout_s=2, retry=retry)
        self._prefix = prefix
        self._ttl_s = ttl_s

    def erase(self, run_ids: Iterable[str]) -> None:
        """Replace each stream of these runs with a stream of one entry, which has the highest possible ID and expires.

        Redis then refuses further entries, so a process that does not know of the erasure cannot restore the stream.
        If Redis is unavailable, the streams stay until they expire.
        """
        pipeline = self._redis.pipeline(transaction=True)
        for run_id in run_ids:
            key = stream_key(self._prefix, run_id)
            fields: dict[Any, Any] = {"type": ERASED, "data": "{}"}
            pipeline.delete(key)
            pipeline.xadd(key, fields, id=HIGHEST)
            pipeline.expire(key, self._ttl_s)
        try:
            pipeline.execute()
        except RedisError as error:
            log.warning("streams were not erased; they stay until they expire", error=error)

    def close(self) -> None:
        """Close every connection."""
        self._redis.close()
