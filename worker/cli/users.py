"""`team-sessions users`: everything of one user, written out or erased."""

import json
import sys

import click

from worker.cli.connection import connect
from worker.cli.progress_bar import counted


@click.group()
def users() -> None:
    """Write out or erase everything of a user."""


@users.command()
@click.argument("user_id", metavar="USER")
def export(user_id: str) -> None:
    """Print everything of USER as JSON lines: each session, then its runs, messages and summaries."""
    with connect() as client, counted(client.export_user(user_id), label="Lines", to=sys.stdout) as lines:
        for line in lines:
            click.echo(json.dumps(line, ensure_ascii=False))


@users.command()
@click.argument("user_id", metavar="USER")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(user_id: str, yes: bool) -> None:
    """Erase everything of USER, with the API keys that are bound to them. A run of theirs ends at its next write."""
    if not yes:
        click.confirm(f"Erase everything of user {user_id!r}? It cannot be undone", abort=True)
    with connect() as client:
        erased = client.erase_user(user_id)
    click.echo(", ".join(f"{count} {what.replace('_', ' ')}" for what, count in erased.items()))
