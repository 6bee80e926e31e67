"""`team-sessions db`: the schema, and what has reached the end of its lifetime."""

import click

from worker import settings as configuration
from worker.cli.progress_bar import pieces
from worker.cli.table import print_table
from worker.errors import SchemaOutdated
from worker.events.erase import Eraser
from worker.retention import Removal, due
from worker.settings import Settings
from worker.store import migrate
from worker.store.engine import Database
from worker.store.retention import Removed


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
@click.option("--removing", is_flag=True, help="Also remove what only older versions use.")
def upgrade(removing: bool) -> None:
    """Bring the database to the schema of this version. Doing it twice does nothing.

    In a rolling deploy, run it before the first process is replaced: older versions work on meanwhile. When none of
    their processes is left, run it again with --removing.
    """
    database = Database(configuration.load().database)
    with pieces("Upgrading") as on_piece:
        migrate.upgrade(database, removing=removing, on_piece=on_piece)
    with database.read() as tx:
        at = migrate.current_revision(tx)
    database.close()
    click.echo(f"The database is at revision {at}.")
    if behind := migrate.missing(at):
        names = ", ".join(revision.revision for revision in behind)
        click.echo(f"Left for --removing, when no process of an older version is left: {names}.")


@db.command()
@click.option("--dry-run", is_flag=True, help="Only say how much has reached its end.")
def retention(dry_run: bool) -> None:
    """Remove the sessions and runs that have reached the end of their lifetime, now and in one go.

    Workers for 'batch' or 'summaries' do so by themselves, bit by bit. A dry run counts everything past its lifetime;
    what a batch, a replay or a summary still needs is counted, too, and goes later.
    """
    settings = configuration.load()
    database = Database(settings.database)
    if misfit := migrate.misfit(database):
        database.close()
        raise SchemaOutdated(misfit=misfit)
    if dry_run:
        _tell_due(database, settings)
    else:
        removed = _remove(database, settings)
        click.echo(f"{removed.sessions} sessions and {removed.runs} runs removed, {removed.messages} messages.")
    database.close()


def _tell_due(database: Database, settings: Settings) -> None:
    rows = [
        (team, _days(kept.sessions_s), _days(kept.runs_s), str(of_sessions), str(of_runs))
        for team, kept, of_sessions, of_runs in due(database, settings)
    ]
    if not rows:
        click.echo("There is nothing to which a setting or a team gives a lifetime.")
        return
    print_table([("TEAM", "SESSIONS KEPT", "RUNS KEPT", "SESSIONS DUE", "RUNS DUE"), *rows])


def _days(seconds: float | None) -> str:
    return "for ever" if seconds is None else f"{seconds / 86_400:g} days"


def _remove(database: Database, settings: Settings) -> Removed:
    if settings.redis_url is None:  # streams end with their lifetime
        return sum(Removal(database, settings, erase=lambda _runs: None).round(), Removed())
    eraser = Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds)
    removed = sum(Removal(database, settings, erase=eraser.erase).round(), Removed())
    eraser.close()
    return removed
