"""`team-sessions keys`: API keys."""

import click

from worker import settings as configuration
from worker.domain.text import check_id
from worker.store import api_keys
from worker.store.engine import Database


@click.group()
def keys() -> None:
    """Make API keys."""


@keys.command()
@click.option("--name", required=True, help="What it is for.")
@click.option("--user", "user_id", help="Bind it to one user; without, it is a service key.")
@click.option("--team", "teams", multiple=True, help="Bind it to a team; may be given again.")
def create(name: str, user_id: str | None, teams: tuple[str, ...]) -> None:
    """Make a key and print it: it is shown this once.

    A service key names the user that it acts for in each request, and sees every user where it names none. A key that
    is bound to a user is that user.
    """
    check_id(name, field="name")
    for value, field in [(user_id, "user"), *((team, "team") for team in teams)]:
        if value is not None:
            check_id(value, field=field)
    database = Database(configuration.load().database)
    with database.write() as tx:
        click.echo(api_keys.create(tx, name=name, user_id=user_id, teams=frozenset(teams)))
    database.close()
