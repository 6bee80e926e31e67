"""`team-sessions runs`: find runs, look at one, watch it, end it, try it again."""

import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any, get_args

import click

from api_stub.client import Run
from api_stub.client.types import Status
from worker import clock
from worker.cli.answer import Answer, require_completed, shown
from worker.cli.connection import connect
from worker.cli.progress_bar import counted
from worker.cli.table import age, print_pages, print_table

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
AS_LINES = click.option("--json", "as_json", is_flag=True, help="Print JSON, one a line.")
FOR_USER = click.option("--user", "user_id", help="The user that a service key acts for.")
LIMIT = click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="So many.")
ALL = click.option("--all", "every", is_flag=True, help="All there are, page by page.")
RUN = click.argument("run_id", metavar="ID")
HEAD = ("ID", "STATUS", "TEAM", "USER", "SESSION", "AGE")
TEXTS = ("input", "output")  # are shown by 'show', of one run that is named


@click.group()
def runs() -> None:
    """Find runs, look at one, watch it, end it, try it again.

    \b
        team-sessions runs list --status failed --team support
        team-sessions runs show ID
        team-sessions runs retry ID
    """


@runs.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only those that stand so.")
@click.option("--team", help="Only of this team.")
@click.option("--user", "user_id", help="Only of this user.")
@click.option("--session", "session_id", help="Only of this session.")
@LIMIT
@ALL
@AS_LINES
def list_runs(limit: int, every: bool, as_json: bool, **wanted: Any) -> None:
    """Show runs, the newest first, without what was said in them."""
    with connect() as client, counted(_some(client.runs(**wanted), limit, every), label="Runs", to=sys.stdout) as found:
        if as_json:
            for run in found:
                click.echo(json.dumps({k: v for k, v in run.items() if k not in TEXTS}, ensure_ascii=False))
            return
        print_pages(HEAD, map(_as_row, found), width=shutil.get_terminal_size().columns, whole=(0, 1))


@runs.command()
@RUN
@FOR_USER
@AS_JSON
def show(run_id: str, user_id: str | None, as_json: bool) -> None:
    """Show the run ID, with its input and its answer. Why one is not moving: 'team-sessions why ID'."""
    with connect() as client:
        run = client.run(run_id, user_id=user_id)
    if as_json:
        click.echo(json.dumps(run, ensure_ascii=False, indent=2))
        return
    usage = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in run["usage"].items() if count)
    error = f"{run['error']['code']}: {run['error']['message']}" if run["error"] else ""
    told = {**run, "usage": usage, "error": error, "metadata": json.dumps(run["metadata"]) if run["metadata"] else ""}
    print_table([(name.replace("_", " "), str(told[name])) for name in told if told[name] and name not in TEXTS])
    for text in TEXTS:
        if told[text]:
            click.echo(f"\n{text}:\n{shown(str(told[text]))}")


@runs.command()
@RUN
@FOR_USER
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON, one a line.")
def watch(run_id: str, user_id: str | None, as_json: bool) -> None:
    """Watch the run ID from its first event to its last: its answer appears as it is made.

    Ctrl-C ends the watching, and not the run. Ends with code 1 for a run that failed or was cancelled.
    """
    with connect() as client:
        events = client.stream(run_id, user_id=user_id)
        if not as_json:
            require_completed(Answer().show(events))
            return
        for event in events:
            click.echo(json.dumps(asdict(event), ensure_ascii=False))


@runs.command()
@RUN
@FOR_USER
@AS_JSON
def cancel(run_id: str, user_id: str | None, as_json: bool) -> None:
    """End the run ID. What it wrote is kept; one that has ended stays as it is."""
    with connect() as client:
        run = client.cancel(run_id, user_id=user_id)
    if as_json:
        click.echo(json.dumps(run, ensure_ascii=False, indent=2))
    else:
        asked = "" if run["finished_at"] else "; it was asked to end, and does at its next step"
        click.echo(f"{run['id']} is {run['status']}{asked}.")


@runs.command()
@RUN
@FOR_USER
@AS_JSON
def retry(run_id: str, user_id: str | None, as_json: bool) -> None:
    """Enqueue the failed or cancelled run ID again, at the end of its session, and print the id of the new one."""
    with connect() as client:
        run = client.retry(run_id, user_id=user_id)
    click.echo(json.dumps(run, ensure_ascii=False, indent=2) if as_json else run["id"])
    if not as_json:
        click.echo(f"To watch it: team-sessions runs watch {run['id']}", err=True)


def _some(found: Iterable[Run], limit: int, every: bool) -> Iterable[Run]:
    return found if every else islice(found, limit)


def _as_row(run: Run) -> tuple[str, ...]:
    since = age(run["created_at"], now=clock.now())
    return run["id"], run["status"], run["team"], run["user_id"], run["session_id"], since
