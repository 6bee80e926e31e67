"""`team-sessions run`: enqueue one run and watch its answer."""

import json

import click

from api_stub.client import Client
from worker.cli.connection import connect


@click.command()
@click.argument("team")
@click.argument("input")
@click.option("--session", "session_id", help="Continue this session; without, a new one.")
@click.option("--user", "user_id", help="The user that it is for.")
@click.option("--json", "as_json", is_flag=True, help="Print the finished run as JSON, and nothing before.")
def run(team: str, input: str, session_id: str | None, user_id: str | None, as_json: bool) -> None:
    """Enqueue a run of TEAM with INPUT and print its answer as it appears.

    \b
        team-sessions run team "Hello, I am Ada" --session s1
        team-sessions run team "Who am I?" --session s1
    """
    with connect() as client:
        accepted = client.enqueue(team, input, session_id=session_id, user_id=user_id)
        if not as_json:
            _print_answer(client, accepted["id"])
        finished = client.run(accepted["id"], wait_s=3600)
    if as_json:
        click.echo(json.dumps(finished, ensure_ascii=False, indent=2))
    elif finished["status"] != "completed":
        reason = f": {finished['error']['message']}" if finished["error"] else ""
        raise click.ClickException(f"Run {finished['id']} is {finished['status']}{reason}")
    else:
        click.echo(f"({finished['id']} in session {finished['session_id']})", err=True)


def _print_answer(client: Client, run_id: str) -> None:
    shown: dict[str, str] = {}
    for event in client.stream(run_id):
        if event.type == "message.delta" and event.data["delegation"] is None:
            shown[event.data["message_id"]] = shown.get(event.data["message_id"], "") + event.data["delta"]
            click.echo(event.data["delta"], nl=False)
        elif event.type == "message.completed" and event.data["role"] == "assistant":
            before = shown.pop(event.data["message_id"], "")
            click.echo(event.data["content"].removeprefix(before))
        elif event.type == "tool_call.started":
            click.echo(f"[{event.data['name']} …]", err=True)
        elif event.type == "message.restarted" and shown.pop(event.data["message_id"], ""):
            click.echo("\n[the worker was lost; another one goes on]", err=True)
        elif event.type == "run.requeued":
            click.echo(f"[waits until {event.data['not_before']}: {event.data['reason']}]", err=True)
