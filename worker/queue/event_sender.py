"""How this process sends Celery's events, which monitors show. No message waits for one.

Celery sends heartbeats on the thread that takes the messages, and connects again with pauses of up to half a minute
until one is sent. It also keeps what was refused without a bound. Here each event is sent once; a few that were refused
are sent again with the next ones.
"""

from collections import deque
from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

KEPT = 100  # refused messages
MANY = 1_000  # events that wait for their group are sent at once


class _Sender(EventDispatcher):  # type: ignore[misc]  # celery has no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer_limit = MANY
        self._outbound_buffer: deque[Any] = deque(maxlen=KEPT)

    def _publish(self, event: Any, producer: Any, routing_key: str, **_retry: Any) -> None:
        super()._publish(event, producer, routing_key, retry=False)


class SentOnce(Events):  # type: ignore[misc]  # as above
    """An app's events, each of which is sent once."""

    dispatcher_cls = f"{__name__}:{_Sender.__name__}"
