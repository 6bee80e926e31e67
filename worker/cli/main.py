"""`team-sessions`: its commands, and how their errors are printed."""

import importlib
import os
import sys

import click

from worker.errors import TeamSessionsError
from worker.settings import unknown_names

# A command's module is imported when the command is used: `run` needs no Celery, and starts at once.
COMMANDS = {
    "up": "worker.cli.up:up",
    "worker": "worker.cli.worker:worker",
    "api": "worker.cli.api:api",
    "flower": "worker.cli.flower:flower",
    "run": "worker.cli.runs:run",
    "chat": "worker.cli.chat:chat",
    "why": "worker.cli.runs:why",
    "doctor": "worker.cli.doctor:doctor",
    "teams": "worker.cli.teams:teams",
    "runs": "worker.cli.runs:runs",
    "sessions": "worker.cli.sessions:sessions",
    "batches": "worker.cli.batches:batches",
    "users": "worker.cli.users:users",
    "keys": "worker.cli.keys:keys",
    "db": "worker.cli.db:group",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="team-sessions")
def cli() -> None:
    """Durable, queue-backed sessions with teams of LLM agents.

    On a laptop, one command is enough:

    \b
        team-sessions up
        team-sessions run team "What can you do?"

    In production: run 'db upgrade' once, then 'api' and 'worker' as separate services, with TEAM_SESSIONS_DATABASE_URL
    and TEAM_SESSIONS_REDIS_URL set.
    """
    for sentence in unknown_names(os.environ):
        click.echo(f"Warning: {sentence}", err=True)


def main() -> None:
    """Run the command line. A TeamSessionsError is printed as one sentence, without a traceback."""
    sys.path.insert(0, os.getcwd())  # TEAM_SESSIONS_TEAMS can name a module of the current directory
    try:
        cli(standalone_mode=True)
    except TeamSessionsError as error:
        click.echo(f"Error: {error.message}", err=True)
        sys.exit(2)
