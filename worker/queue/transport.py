"""kombu's Redis transport, fixed so that a broker's restart ends no worker, and extended by a sign of life.

A task that outlives its connection is acknowledged, or put back, through a closed channel. kombu opens a new pool for
that, fails on the missing connection, and raises an AttributeError, which Celery takes for a bug: every worker with a
task in flight ended some time after the broker was restarted. Here it is raised as a lost connection; the sweep repairs
what the broker did not learn.

A consumer can be dead in a live process: its loop hangs, it reconnects endlessly, or it is connected and polls nothing
(https://github.com/celery/celery/issues/8030 and similar). So a consumer counts as alive when the server answers its
BRPOP, which it does each second, or when its loop runs while every slot is taken: then it polls nothing.
"""

from queue import Empty
from typing import Any, ClassVar

from celery.worker import state
from kombu.transport import TRANSPORT_ALIASES, redis

from worker import clock

FULL_S = 1.0  # how often a consumer whose slots are all taken counts as alive


class _Channel(redis.Channel):
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return one client for all commands except those of the event loop. kombu creates one for each command."""
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
    """The broker's transport. `alive_at`: when a consumer of this process could last take a task."""

    Channel = _Channel
    alive_at: ClassVar[float] = float("-inf")

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let *loop* serve the consumer's connection. What is registered here is dropped with the connection."""
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]  # as above
        loop.call_repeatedly(FULL_S, self._mark_alive_if_full)

    def _mark_alive_if_full(self) -> None:
        # Full without a task means that prefetch credit was lost: such a consumer takes no task any more.
        poller: Any = self.cycle
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in poller._channels)
        if full and state.requests:
            Transport.alive_at = clock.monotonic()


def use() -> None:
    """Serve redis:// and rediss:// with this transport. Under another name kombu connects to rediss:// without TLS."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
