"""`team-sessions db`: upgrade the schema, and remove sessions and runs at the end of their lifetime."""

from contextlib import closing

import click

from worker import settings as configuration
from worker.cli import database
from worker.cli.output import steps
from worker.cli.table import print_table
from worker.events.erase import Eraser
from worker.retention import Removal, due
from worker.settings import Settings
from worker.store import Database, migrate
from worker.store.erasure import Erased


@click.group("db")
def group() -> None:
    """Maintain the database."""


@group.command()
@click.option("--removing", is_flag=True, help="Also remove what only older versions use.")
def upgrade(removing: bool) -> None:
    """Upgrade the database to the schema of this version. It can be repeated.

    In a rolling deploy, run it before the first process is replaced: processes of the older version keep working. When
    all of them have ended, run it again with --removing.
    """
    with database.opened(configuration.load(), migrated=False) as db:
        with steps("Upgrading") as on_piece:
            migrate.upgrade(db, removing=removing, on_piece=on_piece)
        with db.read() as tx:
            revision = migrate.current_revision(tx)
    click.echo(f"The database is at revision {revision}.")
    if missing := migrate.missing(revision):
        names = ", ".join(each.revision for each in missing)
        click.echo(f"Left for --removing, when no process of an older version is left: {names}.")


@group.command()
@click.option("--dry-run", is_flag=True, help="Only count what is due.")
def retention(dry_run: bool) -> None:
    """Remove the sessions and runs that have reached the end of their lifetime, now and all at once.

    Workers for 'batch' or 'summaries' remove them continuously. A dry run counts everything past its lifetime, also
    what is kept longer because a batch, a replay or a summary needs it.
    """
    settings = configuration.load()
    with database.opened(settings) as db:
        if dry_run:
            _print_due(db, settings)
        else:
            removed = _remove(db, settings)
            click.echo(f"{removed.sessions} sessions and {removed.runs} runs removed, {removed.messages} messages.")


def _print_due(db: Database, settings: Settings) -> None:
    rows = [
        (team, _days(lifetimes.sessions_s), _days(lifetimes.runs_s), str(session_count), str(run_count))
        for team, lifetimes, session_count, run_count in due(db, settings)
    ]
    if not rows:
        click.echo("No setting and no team limits a lifetime.")
        return
    print_table([("TEAM", "SESSIONS KEPT", "RUNS KEPT", "SESSIONS DUE", "RUNS DUE"), *rows])


def _days(seconds: float | None) -> str:
    return "forever" if seconds is None else f"{seconds / 86_400:g} days"


def _remove(db: Database, settings: Settings) -> Erased:
    if settings.redis_url is None:  # then streams expire by themselves
        return sum(Removal(db, settings, erase=lambda _runs: None).round(), Erased())
    with closing(Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds)) as eraser:
        return sum(Removal(db, settings, erase=eraser.erase).round(), Erased())
