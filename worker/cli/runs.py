"""`team-sessions run`, `runs` and `why`: enqueue a run; list runs; show, watch, retry and explain one."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any, TextIO, cast, get_args

import click

from api_stub.client import Client, Event, Run
from api_stub.client.types import Status
from worker import clock
from worker.cli import typed
from worker.cli.answer import Answer, require_completed, show_aside
from worker.cli.cancel import TEXTS, cancel
from worker.cli.connection import connect, object_options
from worker.cli.decisions import ask, can_ask
from worker.cli.output import (
    json_line,
    json_option,
    json_requested,
    list_options,
    note,
    print_list,
    print_object,
)
from worker.cli.pending import continue_run
from worker.cli.silence import explained
from worker.cli.table import age, format_fields

RUN = object_options("run_id")
HEAD = ("ID", "STATUS", "TEAM", "USER", "SESSION", "AGE")


@click.command()
@click.argument("team")
@click.argument("input")
@click.option("--session", "session_id", help="Continue this session. Default: a new one.")
@click.option("--user", "user_id", help="The user that the run is for.")
@click.option("--schema", type=click.File(), help="A file with the JSON schema that the answer must fit.")
@json_option("Print only the finished run, as JSON.")
def run(team: str, input: str, session_id: str | None, user_id: str | None, schema: TextIO | None) -> None:
    """Enqueue a run of TEAM with INPUT and print its answer as it appears. INPUT '-' is standard input.

    \b
        team-sessions run team "Hello, I am Ada" --session s1
        team-sessions run team "Who am I?" --session s1
        git diff | team-sessions run reviewer -
        team-sessions run team "Where is my parcel?" --schema category.json | jq .category

    If nothing happens for five seconds, it says why. In a terminal it asks about calls that wait for a decision; after
    'later' the run goes on waiting, and the exit code is 3. Ctrl-C ends the waiting, not the run. The exit code is 1 if
    the run failed or was cancelled.
    """
    text = typed.read_all() if input == "-" else input
    with connect() as client:
        wanted = None if schema is None else _schema(schema)
        accepted = client.enqueue(team, text, session_id=session_id, user_id=user_id, output_schema=wanted)
        try:
            ended = _last(client, accepted["id"]) if json_requested() else _answer().follow(client, accepted["id"])
        except KeyboardInterrupt:
            click.echo(f"\nThe run continues. To watch it: team-sessions runs watch {accepted['id']}", err=True)
            raise
    if json_requested():
        print_object(ended, str)
    require_completed(ended)
    note(f"({ended['id']} in session {ended['session_id']})")


@click.command()
@click.argument("run_id")
@json_option("Print the reason and its facts as JSON.")
def why(run_id: str) -> None:
    """Say why the run RUN_ID is not moving."""
    with connect() as client:
        print_object(client.why(run_id), lambda answer: f"{answer['status']}: {answer['detail']}")


@click.group()
def runs() -> None:
    """List runs; show, watch, continue or retry one; cancel one or many.

    \b
        team-sessions runs list --status failed --team support
        team-sessions runs list --status queued --why
        team-sessions runs show ID
        team-sessions runs continue ID
        team-sessions runs retry ID
        team-sessions runs cancel --team support --status queued
    """


runs.add_command(cancel)
runs.add_command(continue_run)


@runs.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only runs with this status.")
@click.option("--team", help="Only of this team.")
@click.option("--user", "user_id", help="Only of this user.")
@click.option("--session", "session_id", help="Only of this session.")
@click.option("--why", "with_reason", is_flag=True, help="Also the reason why each unfinished run does not move.")
@list_options
def list_runs(
    status: Status | None,
    team: str | None,
    user_id: str | None,
    session_id: str | None,
    with_reason: bool,
    limit: int,
    every: bool,
) -> None:
    """List runs, newest first. Inputs and outputs are left out; 'show' prints them.

    --why shows the code of each reason; 'team-sessions why ID' explains it.
    """
    with connect() as client:
        matches = client.runs(status=status, team=team, user_id=user_id, session_id=session_id)
        page: Iterable[Mapping[str, Any]] = matches if every else islice(matches, limit)
        if with_reason:
            page = ({**run, "reason": _reason(client, run)} for run in page)
        head = (*HEAD, "REASON") if with_reason else HEAD
        print_list(page, _as_row, label="Runs", head=head, omit=TEXTS, whole=(0, 1, 3, 4, 6))


@runs.command()
@RUN
def show(run_id: str, user_id: str | None) -> None:
    """Show the run ID, with its input and output. If it is not moving, 'team-sessions why ID' says why."""
    with connect() as client:
        print_object(client.run(run_id, user_id=user_id), _as_text)


@runs.command()
@object_options("run_id", json=json_option("Print the events as JSON, one a line."))
def watch(run_id: str, user_id: str | None) -> None:
    """Watch the run ID from its first event to its last: its answer appears as it is made.

    Ctrl-C ends the watching, not the run. The exit code is 1 if the run failed or was cancelled.
    """
    with connect() as client:
        if not json_requested():
            ended = _answer().follow(client, run_id, user_id=user_id)
        else:
            ended = _last(client, run_id, user_id=user_id, show=lambda event: click.echo(json_line(asdict(event))))
    require_completed(ended)


@runs.command()
@RUN
def retry(run_id: str, user_id: str | None) -> None:
    """Enqueue the failed or cancelled run ID again, at the end of its session, and print the id of the new run."""
    with connect() as client:
        run = client.retry(run_id, user_id=user_id)
    print_object(run, lambda run: run["id"])
    note(f"To watch it: team-sessions runs watch {run['id']}")


def _schema(file: TextIO) -> dict[str, Any]:
    try:
        schema = json.load(file)
    except ValueError as error:
        raise click.ClickException(f"{file.name} is no JSON: {error}.") from None
    if not isinstance(schema, dict):
        raise click.ClickException(f"{file.name} holds no JSON schema; expected an object.")
    return schema


def _answer() -> Answer:
    return Answer(ask=ask if can_ask() else None)


def _last(
    client: Client, run_id: str, *, user_id: str | None = None, show: Callable[[Event], None] = lambda _: None
) -> Run:
    """Show each event of a run, and return the run at its end. Why it does not move goes to stderr."""
    with explained(client.stream(run_id, user_id=user_id), run_id, user_id=user_id, explain=show_aside) as events:
        for event in events:
            show(event)
    return cast(Run, event.data)


def _as_text(run: Run) -> str:
    usage = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in run["usage"].items() if count)
    error = f"{run['error']['code']}: {run['error']['message']}" if run["error"] else ""
    metadata = json.dumps(run["metadata"]) if run["metadata"] else ""
    fields = {name: value for name, value in run.items() if name not in TEXTS}
    text = format_fields({**fields, "usage": usage, "error": error, "metadata": metadata})
    texts = {"input": run["input"], "output": run["output"]}
    return text + "".join(f"\n\n{name}:\n{value}" for name, value in texts.items() if value)


def _as_row(run: Mapping[str, Any]) -> tuple[str, ...]:
    since = age(run["created_at"], now=clock.now())
    reason = (run["reason"] or "",) if "reason" in run else ()
    return run["id"], run["status"], run["team"], run["user_id"], run["session_id"], since, *reason


def _reason(client: Client, run: Mapping[str, Any]) -> str | None:
    """Return the code of the reason why a run does not move; None: it has ended."""
    return None if run["finished_at"] else client.why(run["id"], user_id=run["user_id"])["reason"]
