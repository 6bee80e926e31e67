"""kombu's Redis transport, mended where it ends the worker after a broker was away.

A task that outlives its connection is acknowledged, or put back, through a channel that has been closed. kombu opens a
new pool for that, trips over the connection that is gone, and raises an AttributeError, which Celery takes for a fault
of the program: every worker with a task in flight ended some time after the broker was restarted. It is said here as
what it is, a lost connection; whatever was meant to be told to the broker, the sweep repairs.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class _Channel(redis.Channel):
    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("the connection of this channel is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[no-untyped-call]  # kombu has no types


class Transport(redis.Transport):
    """The broker's transport."""

    Channel = _Channel


def use() -> None:
    """Have it serve redis:// and rediss://. As a name of its own kombu would connect to rediss:// without TLS."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
