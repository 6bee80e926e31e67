"""Send dispatches, which hold ids only, to their queues, after the commit that made them ready.

Best effort: the row records the dispatch, and the sweep repeats a lost one. So no caller waits for Redis: after a
failure this process sends nothing for a second.
"""

import threading
from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError

from worker.clock import monotonic
from worker.domain import Dispatch
from worker.observe import logs, metrics
from worker.queue.app import RUNS
from worker.queue.envelope import SENT_AT

PAUSE_S = 1.0
TURN_S = 1.0  # how long a send waits for earlier ones; after that, Redis counts as away

log = logs.get(__name__)


class NoDispatcher:
    """For a process without a broker: the sweep of a worker finds what is ready."""

    def send(self, dispatches: Iterable[Dispatch]) -> None:
        """Do nothing."""

    def depths(self) -> dict[str, int] | None:
        """Return None: there is no broker to ask."""
        return None


class Dispatcher:
    """Sends ids through a Celery app. Safe to use from several threads."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._paused_until = 0.0
        self._turn = threading.Lock()

    def send(self, dispatches: Iterable[Dispatch]) -> None:
        """Send each to its queue. Never raises for a broker that is away."""
        outcome = "sent"
        for dispatch in dispatches:
            outcome = self._send(dispatch) if outcome == "sent" else "skipped"
            metrics.DISPATCHES.labels(dispatch.queue, outcome).inc()

    def _send(self, dispatch: Dispatch) -> str:
        """Send one dispatch. Return sent, failed, or skipped if another one had just failed."""
        # One at a time: with a frozen Redis, the others stop waiting as soon as the first has failed.
        if monotonic() < self._paused_until or not self._turn.acquire(timeout=TURN_S):
            return "skipped"
        try:
            if monotonic() < self._paused_until:
                return "skipped"
            with metrics.timed(metrics.DISPATCH.labels(dispatch.queue)):
                self._app.send_task(
                    dispatch.task,
                    kwargs=dispatch.ids,
                    argsrepr="()",  # what Flower shows; by default Celery takes 50 µs to make the same
                    kwargsrepr=repr(dispatch.ids),
                    task_id=dispatch.task_id,
                    queue=dispatch.queue,
                    headers={SENT_AT: dispatch.sent_at.isoformat()} if dispatch.sent_at else {},
                    retry=False,
                )
            return "sent"
        except (OperationalError, OSError) as error:
            self._paused_until = monotonic() + PAUSE_S
            log.warning("dispatch failed; the sweep will repeat it", task_id=dispatch.task_id, error=error)
            return "failed"
        finally:
            self._turn.release()

    def depths(self) -> dict[str, int] | None:
        """Return how many messages wait in each queue of runs; None: the broker does not answer."""
        try:
            with self._app.connection_for_read() as connection:
                client = connection.default_channel.client
                return {queue: int(client.llen(queue)) for queue in RUNS}
        except Exception:  # noqa: BLE001 - Redis errors may be imported by worker.events only; each means "no answer"
            return None
