"""`team-sessions db`: the schema."""

import click

from worker import settings as configuration
from worker.store import migrate
from worker.store.engine import Database


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
def upgrade() -> None:
    """Bring the database to the schema of this version. Doing it twice does nothing."""
    database = Database(configuration.load().database)
    migrate.upgrade(database)
    with database.read() as tx:
        click.echo(f"The database is at revision {migrate.current_revision(tx)}.")
    database.close()
