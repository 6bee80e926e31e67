"""How `team-sessions` starts: what is listed, what is imported, and what the shell completes."""

import os
import subprocess
import sys

import click

from tests.support.system import PROGRAM
from worker.cli.main import COMMANDS, cli

HEAVY = {"celery", "sqlalchemy", "pydantic", "fastapi", "openai", "redis", "httpx2", "alembic"}
LOADED = """
import sys
from worker.cli.main import main
sys.argv = ["team-sessions", {!r}]
try:
    main()
except SystemExit:
    print(*sys.modules)
"""


def imported_by(argument: str) -> set[str]:
    """Return the modules that a command has imported at its end."""
    code = LOADED.format(argument)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_version_import_no_command() -> None:
    """They answer at once."""
    for argument in ("--help", "--version"):
        assert HEAVY & imported_by(argument) == set()


def test_every_command_is_listed_and_can_be_imported() -> None:
    """The list is written beside the commands, so that it imports none."""
    listed = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout

    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert f"  {name} " in listed
        assert line in listed


def test_the_shell_completes_commands_and_options() -> None:
    """As click's scripts ask for it."""

    def completed(words: str) -> list[str]:
        variables = {"_TEAM_SESSIONS_COMPLETE": "bash_complete", "COMP_WORDS": words}
        position = {"COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(PROGRAM[1:], env={**os.environ, **variables, **position}, capture_output=True, text=True)
        return [line.removeprefix("plain,") for line in done.stdout.splitlines()]

    assert completed("team-sessions se") == ["sessions"]
    assert completed("team-sessions runs list --st") == ["--status"]
    assert completed("team-sessions runs list --status fa") == ["failed"]
