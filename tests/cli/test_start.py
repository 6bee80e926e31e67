"""How `team-sessions` starts: what is listed, what is imported, and what the shell completes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.support.system import PROGRAM, ROOT
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


BESIDE_THE_SHOP = """
import team_sessions
import api_stub, worker
from worker import settings, team_module
print(worker.__file__, api_stub.__file__, *team_module.load_teams(settings.load()))
"""
SUSPECT = """
import team_sessions
from worker.cli import isolated_run
from worker.process.isolated import IsolatedProcesses
if __name__ == "__main__":
    print(IsolatedProcesses(isolated_run.execute_alone).execute("run", "team", stopping=lambda: False))
"""


SCRIPT = """
from team_sessions import Agent, RunContext, ScriptedModel, Team
from team_sessions.client import AsyncClient, Client
from team_sessions.errors import RunFailed
import team_sessions
agent = Agent(id="a", model=ScriptedModel(["hello"]))
missing = {*team_sessions.__all__} - {*dir(team_sessions)}
print(agent.run("hi").content, Client.__module__, RunFailed.code, *missing)
try:
    from team_sessions import Taem
except ImportError as error:
    print(error)
"""


@pytest.fixture
def beside_the_shop(tmp_path: Path) -> Callable[[str], "subprocess.CompletedProcess[str]"]:
    """Run a program in a directory, and with a PYTHONPATH, in which packages of another project have our names."""
    (tmp_path / "shop/worker").mkdir(parents=True)
    for file in ("worker.py", "api_stub.py", "ops.py", "shop/worker/__init__.py", "shop/api_stub.py"):
        (tmp_path / file).write_text("raise SystemExit('a file of the shop was imported')")
    (tmp_path / "my_teams.py").write_text("from worker import Team\nteam = Team(id='t')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "shop"), "TEAM_SESSIONS_TEAMS": "my_teams"}

    def run(program: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "start.py").write_text(program)
        command = [sys.executable, "start.py"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_packages_of_others_are_not_taken_for_ours(
    beside_the_shop: Callable[[str], "subprocess.CompletedProcess[str]"],
) -> None:
    """Neither those beside the teams nor those in PYTHONPATH; the teams are found."""
    done = beside_the_shop(BESIDE_THE_SHOP)

    files = [str(ROOT / package / "__init__.py") for package in ("worker", "api_stub")]
    assert done.stdout.split() == [*files, "t"], done.stderr


def test_the_package_has_one_name_for_all_that_is_public(
    beside_the_shop: Callable[[str], "subprocess.CompletedProcess[str]"],
) -> None:
    """Beside a `worker.py` of the user's, too; what it does not have is an error of imports."""
    done = beside_the_shop(SCRIPT)

    first, second = done.stdout.splitlines()
    assert first == "hello api_stub.client.client run_failed", done.stderr
    assert "cannot import name 'Taem' from 'team_sessions'" in second


@pytest.mark.extended
def test_the_process_of_a_suspect_run_is_ours_too(
    beside_the_shop: Callable[[str], "subprocess.CompletedProcess[str]"],
) -> None:
    """A server starts it, which searches the working directory; it comes as far as its settings."""
    done = beside_the_shop(SUSPECT)

    assert done.stdout == "1\n"
    assert "TEAM_SESSIONS_REDIS_URL is not set" in done.stderr
