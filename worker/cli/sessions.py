"""`team-sessions sessions`: list sessions; show, change or delete one, print its messages and its summary."""

import json
from itertools import islice
from typing import Any, Literal

import click

from api_stub.client import Message, Session
from worker import clock
from worker.cli.connection import FOR_USER, connect, object_options
from worker.cli.numbers import COUNT
from worker.cli.output import JSON_LINES, list_options, note, print_lines, print_list, print_object
from worker.cli.table import age, format_fields

SESSION = object_options("session_id")
HEAD = ("ID", "TEAM", "USER", "NAME", "RUNS", "MSGS", "SUMMARY", "ACTIVE")
REFRESHES = {
    "waiting": "A refresh is requested, and waits for a worker. Run this command without options to read the summary.",
    "running": "A refresh is running. Run this command without options to read the summary.",
    "failed": "A refresh has failed before, and is retried. 'team-sessions doctor' says why.",
    None: "Nothing to do: the summary covers everything that has ended.",
}
ROLES = ("user", "assistant", "tool")


@click.group()
def sessions() -> None:
    """List sessions; show, rename, tag or delete one, print its messages or its summary.

    \b
        team-sessions sessions list --user ada
        team-sessions sessions update ID --user ada --name "A lost parcel" --tag vip
        team-sessions sessions messages ID --user ada
        team-sessions runs list --session ID --user ada
    """


@sessions.command("list")
@click.option("--team", help="Only of this team.")
@click.option("--user", "user_id", help="Only of this user.")
@click.option("--name", help="Only with exactly this name.")
@click.option("--tag", help="Only with this tag.")
@list_options
def list_sessions(
    team: str | None, user_id: str | None, name: str | None, tag: str | None, limit: int, every: bool
) -> None:
    """List sessions, latest activity first, without their messages and state."""
    with connect() as client:
        matches = client.sessions(team=team, user_id=user_id, name=name, tag=tag)
        page = matches if every else islice(matches, limit)
        print_list(page, _as_row, label="Sessions", head=HEAD, omit=("state",), whole=(0, 2))


@sessions.command()
@SESSION
def show(session_id: str, user_id: str | None) -> None:
    """Show the session ID: its name, its length, and the state that its tools keep."""
    with connect() as client:
        print_object(client.session(session_id, user_id=user_id), _as_text)


@sessions.command()
@click.option("--name", help="Its name. '' removes it.")
@click.option("--description", help="Its description. '' removes it.")
@click.option("--tag", "tags", multiple=True, help="A tag; can be repeated. They replace all tags; '' removes them.")
@SESSION
def update(
    session_id: str, user_id: str | None, name: str | None, description: str | None, tags: tuple[str, ...]
) -> None:
    """Rename, describe or tag the session ID, and show it. What no option names stays as it is.

    \b
        team-sessions sessions update ID --name "A lost parcel" --tag vip --tag refund
    """
    texts: dict[str, Any] = {
        field: text or None for field, text in (("name", name), ("description", description)) if text is not None
    }
    if not texts and not tags:
        raise click.UsageError("Nothing to change. Pass --name, --description or --tag.")
    new_tags = [tag for tag in tags if tag] if tags else None
    with connect() as client:
        print_object(client.update_session(session_id, **texts, tags=new_tags, user_id=user_id), _as_text)


@sessions.command()
@click.option("--role", type=click.Choice(ROLES), help="Only of this role.")
@object_options("session_id", json=JSON_LINES)
def messages(session_id: str, user_id: str | None, role: Literal["user", "assistant", "tool"] | None) -> None:
    """Print the messages of the session ID, oldest first."""
    with connect() as client:
        print_lines(client.messages(session_id, role=role, user_id=user_id), _format_message, label="Messages")


@sessions.command()
@click.option("--version", type=COUNT, help="Print this older version.")
@click.option("--refresh", is_flag=True, help="Request a refresh, and print its status.")
@click.option("--rebuild", is_flag=True, help="Request a new summary of the session from its first message.")
@SESSION
def summary(session_id: str, user_id: str | None, version: int | None, refresh: bool, rebuild: bool) -> None:
    """Print the summary of the session ID, or request a refresh."""
    if (refresh or rebuild) and version is not None:
        raise click.UsageError("--version prints a version. It cannot be combined with --refresh or --rebuild.")
    with connect() as client:
        if refresh or rebuild:
            request = client.refresh_summary(session_id, rebuild=rebuild, user_id=user_id)
            job = request["refresh"]
            print_object(request, lambda _: REFRESHES[job["status"] if job else None])
            return
        current = client.summary(session_id, version=version, user_id=user_id)
    print_object(current, lambda summary: summary["text"])
    source = f"Version {current['version']} by {current['model']}"
    note(f"[{source}, up to message {current['covers_through_seq']}; {current['behind']} messages follow]", dim=True)


@sessions.command()
@click.argument("session_id", metavar="ID")
@FOR_USER
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(session_id: str, user_id: str | None, yes: bool) -> None:
    """Delete the session ID with everything in it. A run that is executing ends at its next write."""
    if not yes:
        click.confirm(f"Delete session {session_id!r} with everything in it? It cannot be undone", abort=True)
    with connect() as client:
        client.delete_session(session_id, user_id=user_id)
    click.echo(f"Session {session_id} is deleted.")


def _as_text(session: Session) -> str:
    return format_fields({name: _format_value(value) for name, value in session.items() if value})


def _as_row(session: Session) -> tuple[str, ...]:
    summary = f"v{session['summary']['version']}" if session["summary"] else ""
    names = (session["id"], session["team"], session["user_id"], session["name"] or "")
    counts = (str(session["run_count"]), str(session["message_count"]), summary)
    return *names, *counts, age(session["updated_at"], now=clock.now())


def _format_message(message: Message) -> str:
    calls = "".join(f"\n→ {call['name']} {call['arguments']}" for call in message["tool_calls"] or ())
    return f"[{message['seq']} {message['role']} {message['author']}] {message['content']}{calls}"


def _format_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
