"""`team-sessions users`: export or erase all data of one user."""

import click

from worker.cli.connection import connect
from worker.cli.output import json_line, print_lines


@click.group()
def users() -> None:
    """Export or erase all data of a user."""


@users.command()
@click.argument("user_id", metavar="USER")
def export(user_id: str) -> None:
    """Print all data of USER as JSON lines: each session, then its runs, messages and summaries."""
    with connect() as client:
        print_lines(client.export_user(user_id), json_line, label="Lines")


@users.command()
@click.argument("user_id", metavar="USER")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(user_id: str, yes: bool) -> None:
    """Erase all data of USER and the API keys bound to them. A run that is executing ends at its next write."""
    if not yes:
        click.confirm(f"Erase everything of user {user_id!r}? It cannot be undone", abort=True)
    with connect() as client:
        erased = client.erase_user(user_id)
    click.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in erased.items()))
