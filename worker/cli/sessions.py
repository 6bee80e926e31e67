"""`team-sessions sessions`: find sessions, read one, refresh its summary, delete it."""

import json
import shutil
import sys
from itertools import islice
from typing import Any, Literal

import click

from api_stub.client import Message, Session
from worker import clock
from worker.cli.answer import shown
from worker.cli.connection import connect
from worker.cli.progress_bar import counted
from worker.cli.runs import ALL, AS_JSON, AS_LINES, FOR_USER, LIMIT
from worker.cli.table import age, print_pages, print_table

SESSION = click.argument("session_id", metavar="ID")
HEAD = ("ID", "TEAM", "USER", "NAME", "RUNS", "MSGS", "SUMMARY", "ACTIVE")
ROLES = ("user", "assistant", "tool")


@click.group()
def sessions() -> None:
    """Find sessions, read one, refresh its summary, delete it.

    \b
        team-sessions sessions list --user ada
        team-sessions sessions messages ID --user ada
        team-sessions runs list --session ID --user ada
    """


@sessions.command("list")
@click.option("--team", help="Only of this team.")
@click.option("--user", "user_id", help="Only of this user.")
@click.option("--name", help="Only those of exactly this name.")
@click.option("--tag", help="Only those with this tag.")
@LIMIT
@ALL
@AS_LINES
def list_sessions(limit: int, every: bool, as_json: bool, **wanted: Any) -> None:
    """Show sessions, the one with the latest activity first, without what was said in them."""
    with connect() as client:
        found = client.sessions(**wanted)
        with counted(found if every else islice(found, limit), label="Sessions", to=sys.stdout) as some:
            if as_json:
                for session in some:
                    click.echo(json.dumps({k: v for k, v in session.items() if k != "state"}, ensure_ascii=False))
                return
            print_pages(HEAD, map(_as_row, some), width=shutil.get_terminal_size().columns, whole=(0,))


@sessions.command()
@SESSION
@FOR_USER
@AS_JSON
def show(session_id: str, user_id: str | None, as_json: bool) -> None:
    """Show the session ID: what it is called, how long it is, and what its tools keep (its state)."""
    with connect() as client:
        session = client.session(session_id, user_id=user_id)
    if as_json:
        click.echo(json.dumps(session, ensure_ascii=False, indent=2))
        return
    print_table([(name.replace("_", " "), _spelled(value)) for name, value in session.items() if value])


@sessions.command()
@SESSION
@FOR_USER
@click.option("--role", type=click.Choice(ROLES), help="Only those of this role.")
@AS_LINES
def messages(session_id: str, user_id: str | None, role: Literal["user", "assistant", "tool"], as_json: bool) -> None:
    """Print the messages of the session ID, the oldest first."""
    with connect() as client:
        found = client.messages(session_id, role=role, user_id=user_id)
        with counted(found, label="Messages", to=sys.stdout) as counting:
            for message in counting:
                click.echo(json.dumps(message, ensure_ascii=False) if as_json else _as_text(message))


@sessions.command()
@SESSION
@FOR_USER
@click.option("--version", type=click.IntRange(min=1), help="An older one.")
@click.option("--refresh", is_flag=True, help="Have it refreshed now, and say what became of the request.")
@click.option("--rebuild", is_flag=True, help="Have it made anew, from the first message on.")
@AS_JSON
def summary(
    session_id: str, user_id: str | None, version: int | None, refresh: bool, rebuild: bool, as_json: bool
) -> None:
    """Print the summary of the session ID, or have it refreshed."""
    if (refresh or rebuild) and version is not None:
        raise click.UsageError("--version is for looking. Leave it out, or --refresh and --rebuild.")
    with connect() as client:
        if refresh or rebuild:
            asked = client.refresh_summary(session_id, rebuild=rebuild, user_id=user_id)
            told = (
                f"It is {asked['refresh']['status']}." if asked["refresh"] else "It covers everything that has ended."
            )
            click.echo(json.dumps(asked, ensure_ascii=False, indent=2) if as_json else told)
            return
        found = client.summary(session_id, version=version, user_id=user_id)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    click.echo(shown(found["text"]))
    about = f"Version {found['version']} by {found['model']}, up to message {found['covers_through_seq']}"
    click.secho(f"[{about}; {found['behind']} behind it]", dim=True, err=True)


@sessions.command()
@SESSION
@FOR_USER
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(session_id: str, user_id: str | None, yes: bool) -> None:
    """Delete the session ID with everything in it. A run of it ends at its next write."""
    if not yes:
        click.confirm(f"Delete session {session_id!r} with everything in it? It cannot be undone", abort=True)
    with connect() as client:
        client.delete_session(session_id, user_id=user_id)
    click.echo(f"Session {session_id} is deleted.")


def _as_row(session: Session) -> tuple[str, ...]:
    summary = f"v{session['summary']['version']}" if session["summary"] else ""
    names = (session["id"], session["team"], session["user_id"], session["name"] or "")
    counts = (str(session["run_count"]), str(session["message_count"]), summary)
    return *names, *counts, age(session["updated_at"], now=clock.now())


def _as_text(message: Message) -> str:
    calls = "".join(f"\n→ {call['name']} {call['arguments']}" for call in message["tool_calls"] or ())
    head = click.style(f"[{message['seq']} {message['role']} {message['author']}]", dim=True)
    return f"{head} {shown(message['content'] + calls)}"


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
