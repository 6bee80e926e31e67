"""The Celery app, with the reason for each setting."""

from collections.abc import Sequence
from ssl import CERT_REQUIRED

from celery import Celery
from kombu.entity import Exchange, Queue

from worker.queue import transport
from worker.settings import Settings

RUNS = ("resumed", "runs")  # what a user waits for; asked in this order
BACKGROUND = ("enqueue", "batch", "summaries")  # what nobody waits for; asked in turn, each with slots of its own
QUEUES = RUNS + BACKGROUND


def make_app(settings: Settings, *, queues: Sequence[str] = ()) -> Celery:
    """Return a Celery app for *settings*, which may consume *queues*; tasks are registered by `worker.tasks`.

    Raises:
        SettingsInvalid: no broker is set.
    """
    transport.use()
    app = Celery("team-sessions", broker=settings.broker, set_as_current=False, fixups=[])
    app.conf.update(
        # Celery's own default takes any certificate. A private authority is named in the URL: ?ssl_ca_certs=FILE.
        broker_use_ssl={"ssl_cert_reqs": CERT_REQUIRED} if settings.broker.startswith("rediss://") else None,
        # JSON only: whoever can write to the broker could otherwise run code.
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        # No result backend. After a broker bounce it records FAILURE for tasks that finished:
        # https://github.com/celery/celery/issues/8588. A run's status is in our database, and only there.
        result_backend=None,
        task_ignore_result=True,
        # A slot takes one message when it is free: with early acknowledgement or a larger prefetch, messages wait
        # behind a long run while another worker is idle (makespan 6.0 s against 4.0 s).
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        # A delivery that comes twice does nothing, so none needs to be restored early or kept track of for long.
        broker_transport_options={
            "visibility_timeout": 600,
            # Without timeouts, a publish to a frozen server hangs for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # Whoever sends is told at once that there is no broker, not after 6 s: the sweep sends again.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            # A consumer's connection without answers is dropped within 21 s, before the watchdog ends the process.
            "health_check_interval": 10,
            # The order of `-Q`: `resumed` before `runs`. Runs that were started before are few, so nothing starves.
            # With others beside them it would starve those: then each is asked in turn.
            "queue_order_strategy": "priority" if set(queues) <= set(RUNS) else "round_robin",
        },
        # The sweep repairs what a publish lost; the caller does not wait for a second try.
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Not possible on threads, and the fence makes a doubled delivery harmless.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A typing error must not make a queue that nobody consumes.
        task_queues=[_queue(settings.queue(name)) for name in QUEUES],
        task_create_missing_queues=False,
        task_default_queue=settings.queue("runs"),
        # Flower's source. It costs 0.2 ms a task.
        worker_send_task_events=True,
        task_send_sent_event=False,  # one more publish inside each request; the worker's own events say enough
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=True,
        worker_consumer="worker.queue.consumer:CarefulConsumer",
        enable_utc=True,
        timezone="UTC",
    )
    return app


def _queue(name: str) -> Queue:
    """An exchange of its own for each queue: bound to a shared one, a message to one would reach them all."""
    return Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]  # kombu has no types
