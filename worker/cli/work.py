"""`team-sessions worker`: execute runs."""

import signal
import warnings
from typing import Any

import click
from celery import signals
from celery.platforms import SecurityWarning

from worker import settings as configuration
from worker import tasks
from worker.errors import SchemaOutdated
from worker.observe import logs
from worker.queue.app import QUEUES, make_app
from worker.runs import runtime
from worker.store import migrate
from worker.team import served

log = logs.get(__name__)


@click.command()
@click.option("--queues", default=",".join(QUEUES), show_default=True, help="Queues to consume, the first asked first.")
@click.option("--concurrency", default=100, show_default=True, help="Runs at the same time, each on a thread.")
def worker(queues: str, concurrency: int) -> None:
    """Execute runs from the queues.

    Start as many as there are cores to use. On SIGTERM it stops claiming, hands each run over at its next message, and
    ends model calls after TEAM_SESSIONS_HANDOVER_SECONDS: another worker goes on with them.
    """
    settings = configuration.load()
    logs.configure(settings.log_level, style=settings.log_style)
    names = [name.strip() for name in queues.split(",")]
    if unknown := set(names) - set(QUEUES):
        raise click.BadParameter(f"no such queue: {', '.join(sorted(unknown))}. There are: {', '.join(QUEUES)}.")
    teams = served(settings)
    app = make_app(settings)
    rooms = runtime.start(settings, app, teams, names)
    if not migrate.is_current(rooms.db):
        rooms.close()
        raise SchemaOutdated()
    tasks.register(app, rooms)

    def hand_over(**_: Any) -> None:
        rooms.keeper.hand_over(grace_s=settings.handover_seconds)

    def start(**_: Any) -> None:
        rooms.sweep.start()
        log.info("worker ready", queues=",".join(names), teams=",".join(sorted(teams)), concurrency=concurrency)

    signals.worker_shutting_down.connect(hand_over, weak=False)
    signals.worker_ready.connect(start, weak=False)
    consumer = app.Worker(
        pool="threads",
        concurrency=concurrency,
        queues=[settings.queue(name) for name in names],
        hostname=f"worker-{rooms.owner.rsplit(':', 2)[1]}@{rooms.owner.split(':', 1)[0]}",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        loglevel=settings.log_level,
    )
    warnings.filterwarnings("ignore", category=SecurityWarning)  # of a root user who takes pickle: we take JSON only
    consumer.start()
    log.info("worker stopped")
    rooms.close()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(consumer.exitcode or 0)
