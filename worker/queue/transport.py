"""kombu's Redis transport, mended where it ends the worker after a broker was away; and it shows that it consumes.

A task that outlives its connection is acknowledged, or put back, through a channel that has been closed. kombu opens a
new pool for that, trips over the connection that is gone, and raises an AttributeError, which Celery takes for a fault
of the program: every worker with a task in flight ended some time after the broker was restarted. It is said here as
what it is, a lost connection; whatever was meant to be told to the broker, the sweep repairs.

A consumer can be dead in a process that lives: its loop stands still, it connects for ever, or it is connected and asks
for nothing (https://github.com/celery/celery/issues/8030 and its like). So what counts as a sign of life is an answer
to its BRPOP, which the server gives each second, or a loop that turns while every slot is taken: then it asks nothing.
"""

from queue import Empty
from typing import Any, ClassVar

from celery.worker import state
from kombu.transport import TRANSPORT_ALIASES, redis

from worker import clock

FULL_S = 1.0  # how often a consumer whose slots are all taken says that it lives


class _Channel(redis.Channel):
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return one client for all commands but those of the event loop: kombu makes one for each command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]  # kombu has no types
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()  # type: ignore[no-untyped-call]  # as above
        return self._shared

    def _brpop_read(self, **options: Any) -> Any:
        try:
            read = super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # as above
        except Empty:
            Transport.alive_at = clock.monotonic()
            raise
        Transport.alive_at = clock.monotonic()
        return read

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("the connection of this channel is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above


class Transport(redis.Transport):
    """The broker's transport. `alive_at`: when a consumer of this process last showed that it could take a task."""

    Channel = _Channel
    alive_at: ClassVar[float] = float("-inf")

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let *loop* serve the consumer's connection. What is registered here ends with the connection."""
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]  # as above
        loop.call_repeatedly(FULL_S, self._live_if_full)

    def _live_if_full(self) -> None:
        # Without a task at hand nothing is full: then credit was lost, and nothing will be taken any more.
        poller: Any = self.cycle
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in poller._channels)
        if full and state.requests:
            Transport.alive_at = clock.monotonic()


def use() -> None:
    """Have it serve redis:// and rediss://. As a name of its own kombu would connect to rediss:// without TLS."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
