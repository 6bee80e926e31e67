"""`team-sessions`: its commands, and how their errors are printed."""

import importlib
import os
import sys

import click
from click.shell_completion import CompletionItem

from worker.cli import terminal
from worker.environment import drop_switches
from worker.errors import DatabaseUnavailable, TeamSessionsError

# Where each command is, and its line in the list of commands. A command's module is imported when the command is used:
# `run` needs no Celery, and `--help` needs none of them.
COMMANDS = {
    "up": ("worker.cli.up:up", "Start everything on one machine, and keep it running."),
    "worker": ("worker.cli.worker:worker", "Execute runs from the queues."),
    "api": ("worker.cli.api:api", "Serve the HTTP API."),
    "flower": ("worker.cli.flower:flower", "Serve Flower, which shows workers and tasks."),
    "run": ("worker.cli.runs:run", "Enqueue a run, and print its answer as it appears."),
    "chat": ("worker.cli.chat:chat", "Talk with a team."),
    "why": ("worker.cli.runs:why", "Say why a run is not moving."),
    "doctor": ("worker.cli.doctor:doctor", "Check everything that a run needs, and say what to do."),
    "teams": ("worker.cli.teams:teams", "List the teams that live workers serve."),
    "runs": ("worker.cli.runs:runs", "List, show, watch, continue, retry and cancel runs."),
    "pending": ("worker.cli.pending:pending", "List the calls that wait for a decision."),
    "sessions": ("worker.cli.sessions:sessions", "List, show, change and delete sessions."),
    "batches": ("worker.cli.batches:batches", "One order over many sessions or runs."),
    "users": ("worker.cli.users:users", "Export or erase all data of a user."),
    "keys": ("worker.cli.keys:keys", "Create, list, rotate and revoke API keys."),
    "db": ("worker.cli.db:group", "Maintain the database."),
}

# They print logs, which hold no control characters, and what your tools print.
SERVERS = {"worker", "api", "flower"}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]


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

    Completion of commands and options, here for bash (also zsh, fish):

    \b
        eval "$(_TEAM_SESSIONS_COMPLETE=bash_source team-sessions)"
    """
    if any(name.startswith("TEAM_SESSIONS_") for name in os.environ):
        for sentence in importlib.import_module("worker.settings").unknown_names(os.environ):
            click.echo(f"Warning: {sentence}", err=True)


def main() -> None:
    """Run the command line. A TeamSessionsError is printed as one sentence, without a traceback."""
    drop_switches(os.environ)
    if not SERVERS.intersection(sys.argv[1:2]):
        terminal.guard()
    try:
        cli(prog_name="team-sessions")  # also if it was started by the path of a file
    except TeamSessionsError as error:
        if isinstance(error, DatabaseUnavailable):
            error = importlib.import_module("worker.cli.database").unusable(error)
        click.echo(f"Error: {error.message}", err=True)
        sys.exit(2)
