"""`team-sessions worker`: execute runs."""

import os
import threading
import time
from functools import partial

import click

from worker import settings as configuration
from worker import tasks
from worker.batches.feed import feed as batches
from worker.cli.isolated_run import execute_alone
from worker.errors import DatabaseUnavailable, SchemaOutdated
from worker.observe import logs, metrics
from worker.process.isolated import IsolatedProcesses
from worker.process.metrics_server import MetricsServer
from worker.process.runtime import Runtime
from worker.process.runtime import start as start_runtime
from worker.process.watchdog import Watchdog
from worker.queue.app import QUEUES, RUNS, make_app
from worker.queue.dispatch import Dispatcher
from worker.queue.progress_events import ProgressEvents
from worker.queue.worker_loop import alive_at, consume, in_flight
from worker.retention import Removal
from worker.runs import background
from worker.store import migrate
from worker.summaries import refresh
from worker.team_module import load_teams

PORT = click.IntRange(1, 65535)
DEAD = os.EX_UNAVAILABLE  # the exit code of a worker that could take no task
LEAVE_S = 10.0  # what a dead worker may take beyond the grace of its runs

log = logs.get(__name__)


@click.command()
@click.option("--queues", default=",".join(RUNS), show_default=True, help="Queues to consume, the first asked first.")
@click.option("--concurrency", default=100, show_default=True, help="Tasks at the same time, each on a thread.")
@click.option("--metrics-port", type=PORT, help="Answer GET /metrics there; else TEAM_SESSIONS_METRICS_PORT.")
def worker(queues: str, concurrency: int, metrics_port: int | None) -> None:
    """Execute runs from the queues.

    What nobody waits for has queues of its own, for a worker of its own: --queues enqueue,batch,summaries. How many
    background runs and summaries that does at the same time is set by TEAM_SESSIONS_BATCH_SLOTS and
    TEAM_SESSIONS_SUMMARY_SLOTS.

    Start as many as there are cores to use. On SIGTERM it stops claiming, hands each run over at its next message, and
    ends model calls after TEAM_SESSIONS_HANDOVER_SECONDS: another worker goes on with them.
    """
    settings = configuration.load()
    logs.configure(settings.log_level, style=settings.log_style)
    names = [name.strip() for name in queues.split(",")]
    if unknown := set(names) - set(QUEUES):
        raise click.BadParameter(f"no such queue: {', '.join(sorted(unknown))}. There are: {', '.join(QUEUES)}.")
    teams = load_teams(settings)
    app = make_app(settings, queues=names)
    metrics.preset(teams)
    isolated = IsolatedProcesses(execute_alone)
    runtime = start_runtime(settings, Dispatcher(app, settings), teams, names, isolated=isolated)
    if misfit := migrate.misfit(runtime.db):
        runtime.close()
        raise SchemaOutdated(misfit=misfit)
    host, pid, _ = runtime.owner.rsplit(":", 2)
    shown_as = f"worker-{pid}@{host}"
    progress = ProgressEvents(app, worker=shown_as)
    tasks.register(app, runtime, progress)

    feeds = {"summaries": refresh.feed, "batch": background.feed}
    runtime.sweep.extra_steps += [partial(feed, runtime) for queue, feed in feeds.items() if queue in names]
    if not feeds.keys().isdisjoint(names):  # whoever executes no items would feed them at the cost of its runs
        runtime.sweep.extra_steps.append(partial(batches, runtime))
        runtime.sweep.extra_steps.append(Removal(runtime.db, settings, erase=runtime.publisher.erase).step)

    port = metrics_port or settings.metrics_port
    server = MetricsServer(runtime.db, host=settings.metrics_host, port=port) if port else None
    if server is not None:
        server.start()

    def on_ready() -> None:
        runtime.sweep.start()
        try:
            runtime.presence.announce()  # before the line: whoever hears that it is ready may enqueue for its teams
        except DatabaseUnavailable as error:
            log.warning("worker could not announce itself; the sweep will", error=error)
        log.info("worker ready", queues=",".join(names), teams=",".join(sorted(teams)), concurrency=concurrency)

    def on_stopping() -> None:
        watchdog.close()
        runtime.keeper.hand_over(grace_s=settings.handover_seconds)

    watchdog = Watchdog(
        alive_at=alive_at,
        broker_answers=lambda: runtime.dispatcher.depths() is not None,
        give_up=lambda: _give_up(runtime),
    )
    watchdog.start()
    code = consume(
        app,
        name=shown_as,
        queues=[settings.queue(name) for name in names],
        concurrency=concurrency,
        log_level=settings.log_level,
        on_ready=on_ready,
        on_stopping=on_stopping,
    )
    watchdog.close()
    progress.close()
    runtime.close()
    if server is not None:
        server.close()
    log.info("worker stopped")
    raise SystemExit(code)


def _give_up(runtime: Runtime) -> None:
    """Hand the runs over, sign off, and end the process from beside the main thread, which may stand still for ever."""
    grace_s = runtime.settings.handover_seconds
    last = threading.Timer(grace_s + LEAVE_S, os._exit, [DEAD])  # whatever else stands still too
    last.daemon = True
    last.start()
    runtime.keeper.hand_over(grace_s=grace_s)
    runtime.sweep.close()
    runtime.presence.leave()  # at once: nobody shall count on it while its runs end
    while in_flight():
        time.sleep(0.1)
    runtime.close()
    os._exit(DEAD)
