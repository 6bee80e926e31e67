"""Metrics of the whole installation, read from the database and the broker at most every five seconds."""

import threading

from worker.domain import BatchStatus
from worker.observe import metrics
from worker.process.bounded_poll import BoundedPoll
from worker.queue import app, dispatch
from worker.store import Database, gauges

FRESH_S = 5.0


class InstallationMetrics:
    """The state of the database and the broker, as one API process last read it."""

    def __init__(self, db: Database, dispatcher: dispatch.Dispatcher) -> None:
        self._db = db
        self._database = BoundedPoll(self._read, fresh_s=FRESH_S)
        self._broker = BoundedPoll(dispatcher.depths, fresh_s=FRESH_S)
        self._lock = threading.Lock()

    def render(self) -> bytes:
        """Return all metrics of this process; those of the database only if it answers within two seconds."""
        self._broker.start()
        state, depths = self._database.result(), self._broker.result()
        with self._lock:
            metrics.DATABASE_UP.set(state is not None)
            metrics.BROKER_UP.set(depths is not None)
            metrics.QUEUE_MESSAGES.clear()
            for queue, depth in (depths or {}).items():
                metrics.QUEUE_MESSAGES.labels(queue).set(depth)
            if state is None:
                return metrics.text(metrics.PROCESS, metrics.REACHABILITY)
            _set_gauges(state)
            return metrics.text(metrics.PROCESS, metrics.REACHABILITY, metrics.INSTALLATION)

    def _read(self) -> gauges.Gauges:
        with self._db.read() as tx:
            return gauges.read(tx)


def _set_gauges(state: gauges.Gauges) -> None:
    for (queue, status), count in state.runs.items():
        metrics.UNFINISHED_RUNS.labels(queue, status).set(count)
    for queue, age_s in state.oldest_head_s.items():
        metrics.OLDEST_HEAD.labels(queue).set(age_s)
    for queue in app.QUEUES:
        metrics.WORKERS.labels(queue).set(state.workers.get(queue, 0))
    metrics.TEAM_WORKERS.clear()
    for team, count in state.team_workers.items():
        metrics.TEAM_WORKERS.labels(team).set(count)
    for status, count in state.summary_jobs.items():
        metrics.SUMMARY_JOBS.labels(status).set(count)
    metrics.OLDEST_SUMMARY.set(state.oldest_summary_s)
    for batch_status in BatchStatus:
        metrics.BATCHES.labels(batch_status.value).set(state.batches.get(batch_status.value, 0))
    for status, count in state.batch_items.items():
        metrics.BATCH_ITEMS.labels(status).set(count)
