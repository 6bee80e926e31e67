"""`team-sessions runs cancel`: cancel runs by their ids, or all unfinished runs that meet a filter."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from api_stub.client import Client, RequestFailed, Run
from worker.cli.connection import connect
from worker.cli.output import JSON_LINES, counted, json_line, json_requested, print_object

TEXTS = ("input", "output")  # no list prints them
NONE = "Name the runs by their ids, or by --team, --user, --session or --status."


@click.command()
@click.argument("run_ids", metavar="[ID]...", nargs=-1)
@click.option("--status", type=click.Choice(["queued", "running"]), help="All with this status.")
@click.option("--team", help="All unfinished ones of this team.")
@click.option("--user", "user_id", help="All unfinished ones of this user; with an ID, its user.")
@click.option("--session", "session_id", help="All unfinished ones of this session.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON_LINES
def cancel(
    run_ids: tuple[str, ...],
    status: str | None,
    team: str | None,
    user_id: str | None,
    session_id: str | None,
    yes: bool,
) -> None:
    """Cancel the run ID, several runs, or all unfinished runs that meet the options.

    What they wrote is kept. A run that has ended does not change. Options count the runs first, and ask.

    \b
        team-sessions runs cancel ID
        team-sessions runs cancel --team support --status queued
        team-sessions runs cancel --user ada --yes
    """
    filters = {"team": team, "session_id": session_id}
    if run_ids and (status or any(filters.values())):
        raise click.UsageError("Name the runs by their ids or by options, not both.")
    if not run_ids and not (status or user_id or any(filters.values())):
        raise click.UsageError(NONE)
    with connect() as client:
        if len(run_ids) == 1:
            print_object(client.cancel(run_ids[0], user_id=user_id), _sentence)
            return
        ids = run_ids or _unfinished(client, status, user_id=user_id, **filters)
        if not run_ids and ids and not yes:
            click.confirm(f"Cancel {_runs(len(ids))}?", abort=True, err=True)
        cancelled = list(_cancel_each(client, ids, user_id=user_id, skip_missing=not run_ids))
    if not json_requested():
        stopping = sum(run["finished_at"] is None for run in cancelled)
        later = f"; {stopping:,} of them stop at their next step" if stopping else ""
        click.echo(f"{_runs(len(cancelled))} cancelled{later}.")


def _unfinished(client: Client, status: str | None, **filters: Any) -> list[str]:
    """Return the ids of the runs to cancel. Queued ones come first, so that none starts when a run before it ends."""
    ids: list[str] = []
    for each in ("queued", "running"):
        if status in (None, each):
            with counted(client.runs(status=each, **filters), label=each.capitalize(), to=None) as runs:
                ids += [run["id"] for run in runs]
    return ids


def _cancel_each(client: Client, ids: Sequence[str], *, user_id: str | None, skip_missing: bool) -> Iterator[Run]:
    with counted(ids, label="Cancelling", to=None, length=len(ids)) as counting:
        for run_id in counting:
            try:
                run = client.cancel(run_id, user_id=user_id)
            except RequestFailed as error:
                if not (skip_missing and error.status == 404):  # it was removed since it was counted
                    raise
                continue
            if json_requested():
                click.echo(json_line({name: value for name, value in run.items() if name not in TEXTS}))
            yield run


def _sentence(run: Run) -> str:
    stopping = "" if run["finished_at"] else "; it was asked to stop, and does so at its next step"
    return f"{run['id']} is {run['status']}{stopping}."


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"
