"""`team-sessions run`: enqueue one run and watch its answer."""

import click

from worker.cli.answer import Answer, require_completed
from worker.cli.connection import connect
from worker.cli.output import json_option, json_requested, print_object


@click.command()
@click.argument("team")
@click.argument("input")
@click.option("--session", "session_id", help="Continue this session. Default: a new one.")
@click.option("--user", "user_id", help="The user that the run is for.")
@json_option("Print only the finished run, as JSON.")
def run(team: str, input: str, session_id: str | None, user_id: str | None) -> None:
    """Enqueue a run of TEAM with INPUT and print its answer as it appears.

    \b
        team-sessions run team "Hello, I am Ada" --session s1
        team-sessions run team "Who am I?" --session s1
    """
    with connect() as client:
        accepted = client.enqueue(team, input, session_id=session_id, user_id=user_id)
        if json_requested():
            print_object(client.wait(accepted["id"]), str)
            return
        ended = Answer().show(client.stream(accepted["id"]))
    require_completed(ended)
    click.echo(f"({ended['id']} in session {ended['session_id']})", err=True)
