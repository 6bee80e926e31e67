"""`team-sessions worker`: execute runs."""

import gc
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import click

from worker import settings as configuration
from worker import tasks
from worker.batches.feed import feed as feed_batches
from worker.cli import broker, database
from worker.cli.isolated_run import execute_alone
from worker.cli.numbers import PORT, THREADS
from worker.errors import DatabaseUnavailable
from worker.loop.user_loop import UserLoop
from worker.observe import logs, metrics
from worker.process import limits
from worker.process.isolated import IsolatedProcesses
from worker.process.metrics_server import MetricsServer
from worker.process.runtime import Runtime
from worker.process.runtime import start as start_runtime
from worker.process.watchdog import Watchdog
from worker.queue.app import BACKGROUND, QUEUES, RUNS, make_app
from worker.queue.dispatch import Dispatcher
from worker.queue.progress_events import ProgressEvents
from worker.queue.worker_loop import alive_at, consume, in_flight
from worker.retention import Removal
from worker.runs import background
from worker.runs.decide import expire
from worker.summaries import refresh
from worker.team_module import enter_lifespan, load_teams

DEAD = os.EX_UNAVAILABLE  # exit code of a worker that could no longer take tasks
LEAVE_S = 10.0  # what such a worker may take beyond the grace period of its runs

log = logs.get(__name__)


@click.command()
@click.option("--queues", default=",".join(RUNS), show_default=True, help="Queues to consume, in order of precedence.")
@click.option(
    "--concurrency",
    type=THREADS,
    default=100,
    show_default=True,
    help="Tasks at the same time, each on a thread.",
)
@click.option(
    "--metrics-port",
    type=PORT,
    help="Answer GET /metrics on this port. Default: TEAM_SESSIONS_METRICS_PORT.",
)
@click.option("--check", is_flag=True, help="Only load the teams with their lifespan, and say what is wrong.")
def worker(queues: str, concurrency: int, metrics_port: int | None, check: bool) -> None:
    """Execute runs from the queues.

    Background work has queues of its own, for a separate worker: --queues enqueue,batch,summaries.
    TEAM_SESSIONS_BATCH_SLOTS and TEAM_SESSIONS_SUMMARY_SLOTS limit its background runs and summaries at the same time.

    Start one worker per core. On SIGTERM a worker stops claiming runs and hands each run over at its next message. It
    ends model calls after TEAM_SESSIONS_HANDOVER_SECONDS. Other workers continue the runs. SIGINT, SIGHUP, SIGQUIT and
    SIGUSR2 do the same; more signals change nothing.
    """
    settings = configuration.load()
    logs.configure_from(settings)
    names = [name.strip() for name in queues.split(",")]
    if unknown := set(names) - set(QUEUES):
        raise click.BadParameter(f"no such queue: {', '.join(sorted(unknown))}. There are: {', '.join(QUEUES)}.")
    teams = load_teams(settings)
    if check:
        user_loop = UserLoop()
        enter_lifespan(settings, user_loop)
        user_loop.close()
        click.echo(f"Teams: {', '.join(sorted(teams))}.")
        return
    with database.opened(settings):
        pass  # a mistake ends the worker before it consumes
    broker.check(settings)
    concurrency = limits.fitting(concurrency)
    spare = limits.SpareHandles()
    app = make_app(settings, queues=names)
    metrics.preset(teams)
    isolated = IsolatedProcesses(execute_alone)
    runtime = start_runtime(settings, Dispatcher(app), teams, names, isolated=isolated)
    worker_name = _celery_name(runtime.owner, names)
    progress = ProgressEvents(app, worker=worker_name)
    enter_lifespan(settings, runtime.user_loop)
    tasks.register(app, runtime, progress)
    _extend_sweep(runtime, names)
    port = metrics_port or settings.metrics_port
    server = MetricsServer(runtime.db, host=settings.metrics_host, port=port) if port else None
    if server is not None:
        server.start()
    watchdog = Watchdog(
        alive_at=alive_at,
        broker_answers=lambda: runtime.dispatcher.depths() is not None,
        handles_left=spare.others_left,
        give_up=lambda: _give_up(runtime, spare),
    )
    watchdog.start()

    liveness = runtime.liveness
    assert liveness is not None

    def on_ready() -> None:
        gc.collect()
        gc.freeze()  # what is there now stays: a full collection would stop all runs for 50 ms to find that out
        runtime.sweep.start()
        liveness.start(runtime.sweep.now)
        try:
            runtime.presence.announce()  # before the log line: a reader of it may enqueue for these teams at once
        except DatabaseUnavailable as error:
            log.warning("worker could not announce itself; the sweep will", error=error)
        log.info("worker ready", queues=",".join(names), teams=",".join(sorted(teams)), concurrency=concurrency)

    def on_stopping() -> None:
        watchdog.close()
        runtime.keeper.hand_over(grace_s=settings.handover_seconds)

    code = consume(
        app,
        name=worker_name,
        queues=names,
        concurrency=concurrency,
        log_level=settings.log_level,
        may_take=lambda: not runtime.keeper.reach.is_lost() and liveness.is_held,
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


def _celery_name(owner: str, queues: Sequence[str]) -> str:
    """Return the name of a worker in Flower: what it does, its process and its host.

    Its random part tells containers apart that have one host name, and one process id in each.
    """
    host, pid, random = owner.rsplit(":", 2)
    work = {frozenset(RUNS): "runs", frozenset(BACKGROUND): "background", frozenset(QUEUES): "all"}
    return f"{work.get(frozenset(queues), '+'.join(queues))}-{pid}-{random}@{host}"


def _extend_sweep(runtime: Runtime, queues: Sequence[str]) -> None:
    """Let the sweep also end the wait of pending calls, feed the background work that this worker consumes, and remove
    what is past its lifetime.

    A worker for interactive runs feeds nothing: that would slow its runs down.
    """
    runtime.sweep.extra_steps.append(lambda: runtime.dispatcher.send(expire(runtime.db)))
    feeds = {"summaries": refresh.feed, "batch": background.feed}
    runtime.sweep.extra_steps += [partial(feed, runtime) for queue, feed in feeds.items() if queue in queues]
    if not feeds.keys().isdisjoint(queues):
        removal = Removal(runtime.db, runtime.settings, erase=runtime.publisher.erase)
        runtime.sweep.extra_steps += [partial(feed_batches, runtime), removal.step]


def _give_up(runtime: Runtime, spare: limits.SpareHandles) -> None:
    """Hand the runs over, leave, and end the process. It runs on a thread, because the main thread may be blocked."""
    spare.release()
    grace_s = runtime.settings.handover_seconds
    deadline = threading.Timer(grace_s + LEAVE_S, os._exit, [DEAD])  # in case the steps below block, too
    deadline.daemon = True
    with suppress(RuntimeError):  # there are no threads left
        deadline.start()
    runtime.keeper.hand_over(grace_s=grace_s)
    runtime.sweep.close()
    runtime.presence.leave()  # before its runs end, so that it no longer counts as a live worker
    while in_flight():
        time.sleep(0.1)
    runtime.close()
    os._exit(DEAD)
