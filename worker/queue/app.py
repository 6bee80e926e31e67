"""The Celery app, with the reason for each setting. It is made from our settings alone."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.app.utils import Settings as Configuration
from celery.loaders.app import AppLoader
from kombu.entity import Exchange, Queue

from worker.addresses import broker
from worker.queue import transport
from worker.queue.event_sender import SentOnce
from worker.settings import Settings

RUNS = ("resumed", "runs")  # a user waits for these; polled in this order
BACKGROUND = ("enqueue", "batch", "summaries")  # no user waits for these; polled in turn, each with its own slots
QUEUES = RUNS + BACKGROUND


class _Configuration(Configuration):  # type: ignore[misc]  # celery has no types
    """Celery's own puts CELERY_BROKER_URL and three other variables, often another program's, before what is set."""

    @property
    def broker_url(self) -> Any:
        return self.get("broker_url")

    broker_read_url = broker_write_url = broker_url
    result_backend = None


class _Loader(AppLoader):  # type: ignore[misc]  # as above
    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """Read nothing. Celery's own imports the module that CELERY_CONFIG_MODULE names."""
        return {}


def make_app(settings: Settings, *, queues: Sequence[str] = ()) -> Celery:
    """Return a Celery app for *settings*, which may consume *queues*; tasks are registered by `worker.tasks`.

    Raises:
        SettingsInvalid: no broker is set.
    """
    transport.use()
    address = broker.parse(settings.broker)
    # Named, so that neither CELERY_LOADER nor DJANGO_SETTINGS_MODULE choose something else.
    app = Celery("team-sessions", broker=address.url, loader=_Loader, events=SentOnce, set_as_current=False, fixups=[])
    object.__setattr__(app.conf, "__class__", _Configuration)  # it is made in Celery's __init__; it stays this object
    app.conf.update(
        broker_use_ssl=None if address.tls is None else dict(address.tls),
        # JSON only: with pickle, anyone who can write to the broker could run code.
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        # No result backend. After a broker bounce it records FAILURE for tasks that finished:
        # https://github.com/celery/celery/issues/8588. A run's status is in our database, and only there.
        result_backend=None,
        task_ignore_result=True,
        # A slot takes one message when it is free. With early acknowledgement or a larger prefetch, messages wait for
        # a long run while another worker is idle (makespan 6.0 s against 4.0 s).
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # A second delivery does nothing, so unacknowledged messages need not be restored early.
        broker_transport_options={
            # All keys and channels of Celery begin with it, as ours do, and two sets of workers share none. So the
            # queues have plain names, and `<prefix>runs` is the key of the queue `runs`.
            "global_keyprefix": settings.queue_prefix,
            "client_name": address.client_name,
            "protocol": address.protocol,
            "visibility_timeout": 600,
            # Without timeouts, a publish to a frozen server never returns.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # A send fails at once if there is no broker, not after 6 s: the sweep repeats it.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            # A consumer's connection without answers is dropped within 21 s, before the watchdog ends the process.
            "health_check_interval": 10,
            # In the order of `-Q`: `resumed` before `runs`. Resumed runs are few, so `runs` does not starve. Other
            # queues would starve, so with them each queue is polled in turn.
            "queue_order_strategy": "priority" if set(queues) <= set(RUNS) else "round_robin",
        },
        # The sweep repeats a failed publish; the caller does not wait for a second try.
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Not possible on threads, and the fence makes a second delivery harmless.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A misspelled name must not create a queue without a consumer.
        task_queues=[_queue(name) for name in QUEUES],
        task_create_missing_queues=False,
        task_default_queue="runs",
        # Flower's source. It costs 0.2 ms a task.
        worker_send_task_events=True,
        task_send_sent_event=False,  # one more publish in each request; the worker's events are enough
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=True,
        worker_consumer="worker.queue.consumer:CarefulConsumer",
        enable_utc=True,
        timezone="UTC",
    )
    return app


def _queue(name: str) -> Queue:
    """Return a queue with its own exchange: bound to a shared one, every queue would get every message."""
    return Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]  # kombu has no types
