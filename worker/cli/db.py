"""`team-sessions db`: the schema."""

import click

from worker import settings as configuration
from worker.store import migrate
from worker.store.engine import Database


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
    migrate.upgrade(database, removing=removing)
    with database.read() as tx:
        at = migrate.current_revision(tx)
    database.close()
    click.echo(f"The database is at revision {at}.")
    if behind := migrate.missing(at):
        names = ", ".join(revision.revision for revision in behind)
        click.echo(f"Left for --removing, when no process of an older version is left: {names}.")
