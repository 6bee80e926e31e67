"""`team-sessions teams`: the teams that live workers serve."""

import click

from api_stub.client.types import Team
from worker.cli.connection import connect
from worker.cli.output import JSON_LINES, json_requested, note, print_list

HEAD = ("TEAM", "WORKERS", "QUEUES", "VERSIONS")


@click.group(invoke_without_command=True)
@JSON_LINES
@click.pass_context
def teams(ctx: click.Context) -> None:
    """List the teams that live workers serve.

    \b
        team-sessions teams
        team-sessions teams list --json
    """
    if ctx.invoked_subcommand is None:
        _print_teams()


@teams.command("list")
@JSON_LINES
def list_teams() -> None:
    """List the teams that live workers serve, with their workers, queues and versions.

    A team that is missing here has no worker: its runs wait. Two versions of a team are served while a deploy replaces
    its workers.
    """
    _print_teams()


def _print_teams() -> None:
    with connect() as client:
        teams = list(client.teams())
    if not teams and not json_requested():
        note("No live worker is known: see 'team-sessions doctor'.")
        return
    print_list(teams, _as_row, label="Teams", head=HEAD, omit=(), whole=(0,))


def _as_row(team: Team) -> tuple[str, ...]:
    return team["team"], str(team["workers"]), ",".join(team["queues"]), ",".join(team["versions"])
