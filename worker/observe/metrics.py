"""Every metric, with its unit and its meaning, on one page; `ops/handbook/metrics.md` is generated from it.

Units are base units, and part of the name. Labels have few values, all defined by this package or by the operator:
queues, statuses, codes, ids of teams, models and tools. Never an id of a user, a session or a run, and no text.

PROCESS counts what this process has seen since its start. Every worker and every API process has its own, so sum them.
INSTALLATION is what the database says of the whole installation, REACHABILITY whether its parts answer. Every API
process reports the same, so take the maximum. A process of one run (`process/isolated.py`) is not scraped; its parent
counts how it ended.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from worker import clock

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
LONG_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 900)

# The …_created series double what is scraped, and hold only when a process first used a label.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type for it
PROCESS, INSTALLATION, REACHABILITY = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
prometheus_client.ProcessCollector(registry=PROCESS)  # process_…: memory, processor time, open files


LABELS: dict[str, tuple[str, ...]] = {}  # of each metric, by the name that is collected


def _counter(name: str, description: str, *labels: str) -> Counter:
    LABELS[f"team_sessions_{name.removesuffix('_total')}"] = labels
    return Counter(f"team_sessions_{name}", description, labels, registry=PROCESS)


def _seconds(name: str, description: str, *labels: str, buckets: tuple[float, ...] = SHORT_S) -> Histogram:
    LABELS[f"team_sessions_{name}_seconds"] = labels
    return Histogram(f"team_sessions_{name}_seconds", description, labels, registry=PROCESS, buckets=buckets)


def _gauge(name: str, description: str, *labels: str, registry: CollectorRegistry = INSTALLATION) -> Gauge:
    LABELS[f"team_sessions_{name}"] = labels
    return Gauge(f"team_sessions_{name}", description, labels, registry=registry)


# Runs
RUNS_ACCEPTED = _counter("runs_accepted_total", "Runs accepted here, except by a repeated idempotency key.", "priority")
RUNS_ENDED = _counter(
    "runs_ended_total", "Runs that ended here; team is empty if no worker had claimed them.", "team", "status"
)
RUN_FAILURES = _counter("run_failures_total", "Failed runs, by error code.", "code")
CLAIM = _seconds("claim", "Seconds from sending a run to its queue until its claim, on the database's clock.", "queue")
START = _seconds(
    "start",
    "Seconds from accepting a run until its first claim, on the database's clock: for earlier runs of its session, for "
    "its not_before, and in the queue.",
    "queue",
)
RUNS_ISOLATED = _counter("runs_apart_total", "Runs in isolated processes, by how these ended: ended, killed.", "how")

# Models and tools
MODEL_CALL = _seconds("model_call", "Seconds of model calls that were answered.", "model", buckets=LONG_S)
MODEL_FIRST_TEXT = _seconds("model_first_text", "Seconds from a call to its first text, if it has any.", "model")
MODEL_CALLS = _gauge("model_calls", "Model calls in flight in this process.", "model", registry=PROCESS)
MODEL_ERRORS = _counter("model_errors_total", "Model calls that failed, by error code.", "model", "code")
TOKENS = _counter("tokens_total", "Tokens of replies: input, cached_input (part of input), output.", "model", "kind")
TOOL_FAILURES = _counter("tool_failures_total", "Calls of a team's own tools that raised an error.", "tool")
TOOL_CALL = _seconds("tool_call", "Seconds of calls of a team's own tools.", "tool", buckets=LONG_S)

DECISIONS = _counter("decisions_total", "Decisions about calls that waited, by kind and decision.", "kind", "decision")

# Leases, fences, repairs
LEASE_LOSSES = _counter("lease_losses_total", "Leases that this process had lost, of runs and of summaries.", "work")
REFUSED_WRITES = _counter("refused_writes_total", "Writes refused by the fence: another process had the claim.", "work")
LEASES_ENDED = _counter("leases_ended_total", "Leases of killed workers that this process ended.")
SWEEPS = _counter("sweeps_total", "Repair passes of this worker: done, failed.", "how")
REPAIRS = _counter(
    "repairs_total",
    "Runs that the sweep sent to a queue: lease_expired (or ended: their worker was lost), dispatch_lost, time_come "
    "(no repair: their not_before has passed).",
    "kind",
)
DISPATCHES = _counter(
    "dispatches_total",
    "Dispatches: sent, failed, or skipped after a failure. The sweep repeats the last two.",
    "queue",
    "how",
)
MESSAGES_DROPPED = _counter(
    "messages_dropped_total",
    "Messages that were no tasks of ours, by the queue that they came from; it is empty if that is not known.",
    "queue",
)
DISPATCH = _seconds("dispatch", "Seconds of sending one id to its queue.", "queue")

EVENTS_REFUSED = _counter("events_refused_total", "Writes of events that Redis refused, except old ids.", "error")

# Summaries and batches
SUMMARY_VERSIONS = _counter("summary_versions_total", "Versions of summaries that were written.")
SUMMARY_FAILURES = _counter("summary_failures_total", "Refreshes of a summary that failed, by error code.", "code")
SUMMARY_REFRESH = _seconds("summary_refresh", "Seconds of a refresh that succeeded.", buckets=LONG_S)
BATCH_ITEMS_BEGUN = _counter("batch_items_begun_total", "Items of batches that were started, by kind of batch.", "kind")
BATCH_ITEMS_ENDED = _counter("batch_items_ended_total", "Items of batches that ended, by outcome.", "kind", "outcome")
USER_LOOP_LAG = _gauge(
    "tools_loop_lag_seconds",
    "Seconds by which the event loop of the async tools is late now; above 1, a tool blocks it.",
    registry=PROCESS,
)

# The API
REQUESTS = _counter("http_requests_total", "HTTP requests, by route template.", "method", "route", "status")
ANSWER = _seconds("http_answer", "Seconds until a response starts, ?wait= included.", "method", "route")
REFUSALS = _counter("refusals_total", "Requests refused, over HTTP or the queue `enqueue`, by error code.", "code")
WATCHERS = _gauge("watchers", "Open event streams of this process.", registry=PROCESS)

# From the database. Absent while it does not answer.
UNFINISHED_RUNS = _gauge("unfinished_runs", "Unfinished runs, each series counted up to 100,000.", "queue", "status")
OLDEST_HEAD = _gauge(
    "oldest_waiting_head_age_seconds", "Seconds that the oldest dispatchable head has waited; 0: none waits.", "queue"
)
WORKERS = _gauge("live_workers", "Workers that consume a queue and announced themselves within 15 s.", "queue")
TEAM_WORKERS = _gauge("live_team_workers", "Workers that serve a team and announced themselves within 15 s.", "team")
SUMMARY_JOBS = _gauge(
    "summary_jobs", "Summaries to refresh, counted up to 100,000: due, failed (waits for the next request).", "status"
)
OLDEST_SUMMARY = _gauge("oldest_due_summary_age_seconds", "Seconds that the oldest due summary has waited; 0: none.")
BATCHES = _gauge("batches", "Batches that have not ended.", "status")
BATCH_ITEMS = _gauge("batch_items", "Items of batches that have not ended: waiting, in_flight.", "status")

# Whether the database and the broker answer
DATABASE_UP = _gauge("database_up", "1: the database answered within 2 s.", registry=REACHABILITY)
BROKER_UP = _gauge("broker_up", "1: the broker answered within 2 s.", registry=REACHABILITY)
QUEUE_MESSAGES = _gauge("queue_messages", "Messages in a queue of runs at the broker.", "queue", registry=REACHABILITY)


def preset(teams: Iterable[str] = ()) -> None:
    """Create the series of this process with 0: a rate shows only a series that existed before its first increase."""
    for team in ("", *teams):
        for status in ("completed", "failed", "cancelled"):
            RUNS_ENDED.labels(team, status)
    for work in ("run", "summary"):
        LEASE_LOSSES.labels(work)
        REFUSED_WRITES.labels(work)
    for kind in ("lease_expired", "dispatch_lost", "time_come"):
        REPAIRS.labels(kind)
    for how in ("done", "failed"):
        SWEEPS.labels(how)


def text(*registries: CollectorRegistry) -> bytes:
    """Return the metrics of the registries in Prometheus' text format."""
    return b"".join(prometheus_client.generate_latest(registry) for registry in registries)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe how long the block takes, if it does not raise."""
    started_at = clock.monotonic()
    yield
    histogram.observe(clock.monotonic() - started_at)
