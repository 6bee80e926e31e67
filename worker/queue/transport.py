"""kombu's Redis transport, fixed so that no message and no answer of the broker ends a worker, with a sign of life.

A message that is no task of ours is dropped: see `queue/envelope.py`. It is out of its queue when it is read, and is
not noted as unacknowledged before it is known to be a task. Whatever the broker answers instead of a message (it is
read-only, full, loading, it refuses a command) counts as a lost connection, which Celery makes again.

A task that outlives its connection is acknowledged, or put back, through a closed channel. kombu opens a new pool for
that, fails on the missing connection, and raises an AttributeError. Here it is raised as a lost connection; the sweep
repairs what the broker did not learn.

A consumer can be dead in a live process: its loop hangs, it reconnects endlessly, or it is connected and polls nothing
(https://github.com/celery/celery/issues/8030 and similar). So a consumer counts as alive when the server answers its
BRPOP, which it does each second, or when its loop runs while it polls nothing: every slot is taken, or the database is
away.
"""

from collections.abc import Callable
from queue import Empty
from typing import Any, ClassVar

from celery.worker import state
from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.transport.virtual import QoS

from worker import clock
from worker.observe import logs, metrics
from worker.queue.envelope import NotATask, cleaned

ORDERS = "enqueue"  # the queue in which other programs order runs
FULL_S = 1.0  # how often a consumer whose slots are all taken counts as alive
ERRORS = redis.Transport.connection_errors + redis.Transport.channel_errors
LOST = tuple(
    error for error in ERRORS if error is not KeyError
)  # kombu counts it: a reader of a lost connection is gone

log = logs.get(__name__)


def drop(reason: str, *, queue: str) -> None:
    """Log and count a message that is not delivered, without its content."""
    metrics.MESSAGES_DROPPED.labels(queue).inc()
    log.error("message dropped: it cannot be read", queue=queue, reason=reason)


class _QoS(redis.QoS):
    """The messages that were received and not acknowledged yet, in this process.

    Of an order the broker has a copy, for the case that this process is lost. If the broker refuses a change, its copy
    is delivered once more later, which does nothing; here the change must not be lost, since it is the number of free
    slots. Of a notification it has none, which saves two round trips a run: a row says what there is to do, and the
    sweep sends a lost notification again within seconds, long before a copy would be.
    """

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message. It is out of its queue, so it is delivered even if the broker is full and cannot note it."""
        try:
            if _is_order(message):
                super().append(message, delivery_tag)  # type: ignore[no-untyped-call]  # kombu has no types
                return
        except LOST as error:
            log.warning("message delivered without a copy at the broker", error=error)
        QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]  # as above

    def ack(self, delivery_tag: str) -> None:
        """Remove a message."""
        try:
            if _is_order(self._delivered.get(delivery_tag)):
                super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # as above
        finally:
            QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # as above

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Remove a message, or put it back into its queue."""
        message = self._delivered.get(delivery_tag)
        try:
            if _is_order(message):
                super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]  # as above
            elif requeue and message is not None:
                self._put_back([message])
        finally:
            QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]  # as above

    def restore_unacked(self, client: Any = None) -> None:
        """Put everything back: the channel closes."""
        notifications = [message for message in self._delivered.values() if not _is_order(message)]
        for message in notifications:
            del self._delivered[message.delivery_tag]
        super().restore_unacked(client)  # type: ignore[no-untyped-call]  # as above
        self._put_back(notifications)

    def _put_back(self, notifications: list[Any]) -> None:
        with self.channel.conn_or_acquire() as client, client.pipeline() as pipe:
            for message in notifications:
                info = message.delivery_info
                self.channel._do_restore_message(message._raw, info["exchange"], info["routing_key"], pipe, True)
            pipe.execute()

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Put back what lost processes did not acknowledge. Consuming does not depend on it."""
        try:
            super().restore_visible(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        except Exception as error:  # noqa: BLE001 - another program can have written anything there
            log.warning("unacknowledged messages could not be put back", error=error)


def _is_order(message: Any) -> bool:
    """Tell whether a message is an order, which has a copy. None: its channel was closed, and it was put back."""
    return message is not None and message.delivery_info["routing_key"] == ORDERS


class _Channel(redis.Channel):
    QoS = _QoS
    _shared: Any = None
    protocol: int | None = None  # version of RESP
    from_transport_options: Any = (*redis.Channel.from_transport_options, "protocol")

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return one client for all commands except those of the event loop. kombu creates one for each command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]  # kombu has no types
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()  # type: ignore[no-untyped-call]  # as above
        return self._shared

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consume a queue. What is acknowledged is a task; remote control, its answers and events are not."""
        if not no_ack:
            self.connection.task_queues.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[no-untyped-call]  # as above

    def _brpop_start(self, timeout: float | None = None) -> None:
        # The loop asks again at its next turn. A request that is in flight is answered before that, within a second.
        if Transport.may_take():
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]  # as above

    def _brpop_read(self, **options: Any) -> Any:
        try:
            read = super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # as above
        except Empty:
            Transport.alive_at = clock.monotonic()
            raise
        except LOST:
            raise
        except Exception as error:  # noqa: BLE001 - it is not JSON: the only thing between the answer and `_deliver`
            drop(f"not JSON: {type(error).__name__}", queue="")
            read = True
        Transport.alive_at = clock.monotonic()
        return read

    def _receive_one(self, client: Any) -> Any:
        """Receive one message of remote control, or one event."""
        try:
            return super()._receive_one(client)  # type: ignore[no-untyped-call]  # as above
        except (Empty, *LOST):
            raise
        except Exception as error:  # noqa: BLE001 - as above; what a command does is caught where it is executed
            drop(f"malformed: {type(error).__name__}", queue="")
            raise Empty from None

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionError("the connection of this channel is closed")
        params = super()._connparams(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        return params if self.protocol is None else {**params, "protocol": self.protocol}


class Transport(redis.Transport):
    """The broker's transport.

    `alive_at`: when a consumer of this process could last take a task. `may_take`: whether it should, see `consume`.
    """

    Channel = _Channel
    connection_errors = ERRORS
    channel_errors = ()
    alive_at: ClassVar[float] = float("-inf")
    may_take: ClassVar[Callable[[], bool]] = staticmethod(lambda: True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above
        self.task_queues: set[str] = set()

    def _deliver(self, message: Any, queue: str) -> None:
        """Give a message to the consumer of *queue*, or drop it if it must be a task and is none."""
        if queue not in self.task_queues:
            return super()._deliver(message, queue)  # type: ignore[no-any-return, no-untyped-call]  # as above
        try:
            message = cleaned(message, queue=queue)
        except NotATask as error:
            return drop(str(error), queue=queue)
        try:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]  # as above
        except LOST:
            raise
        except Exception as error:
            raise ConnectionError("a task could not be started; its connection puts it back") from error

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let *loop* serve the consumer's connection. What is registered here is dropped with the connection."""
        super().register_with_event_loop(connection, loop)  # type: ignore[no-untyped-call]  # as above
        loop.call_repeatedly(FULL_S, self._mark_alive_if_idle)

    def _mark_alive_if_idle(self) -> None:
        # Full without a task means that prefetch credit was lost: such a consumer takes no task any more.
        poller: Any = self.cycle
        full = any(channel.active_queues and not channel.qos.can_consume() for channel in poller._channels)
        if (full and state.requests) or not Transport.may_take():
            Transport.alive_at = clock.monotonic()


def use() -> None:
    """Serve redis:// and rediss:// with this transport. Under another name kombu connects to rediss:// without TLS."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:{Transport.__name__}"))
