"""`up --reload`: a change of the teams reaches the workers, runs in progress go on, and a mistake stops nothing."""

import functools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.system import PROGRAM, system, wait_until
from tests.support.valkey import ValkeyServer

TEAMS = """
from team_sessions import Agent, OpenAIChat, Team

def slow() -> str:
    "Wait."
    import pathlib, time
    while not pathlib.Path({released!r}).exists():
        time.sleep(0.05)
    return "done"

team = Team(id="mine", instructions={instructions!r}, tools=[slow])
"""


@pytest.mark.processes
def test_a_change_restarts_the_workers_and_a_mistake_does_not(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer
) -> None:
    """The run that is under way continues after its last message; what is wrong is printed with its place."""
    code = tmp_path / "code"
    code.mkdir()
    module = code / "my_teams.py"
    released = tmp_path / "released"  # until it is there, the tool waits: the run is under way for so long
    teams = functools.partial(TEAMS.format, released=str(released))
    module.write_text(teams(instructions="one"))
    settings = {"TEAM_SESSIONS_TEAMS": "my_teams", "PYTHONPATH": str(code), "TEAM_SESSIONS_DATA_DIR": str(tmp_path)}
    with system(tmp_path, database_url=new_sqlite(), redis_url=valkey.url, settings=settings) as running:
        running.start_model()
        _, client = running.start_up("--reload", "--workers", "1")
        [before] = client.teams()
        run = client.enqueue("mine", "go on [steps=2]")
        wait_until(lambda: client.run(run["id"])["usage"]["model_calls"] > 0, description="the run is under way")

        module.write_text(teams(instructions="two"))
        wait_until(
            lambda: [v for team in client.teams() for v in team["versions"]] not in ([], before["versions"]),
            description="the workers serve the new version",
            timeout_s=120,
        )
        released.touch()
        ended = client.run(run["id"], wait_s=120)
        [after] = client.teams()
        module.write_text(teams(instructions="three").replace("tools=", "tols="))
        running.wait_for_log("up", "The workers are not restarted")

        assert "my_teams.py changed: the workers are restarted." in running.log("up")
        assert "did you mean 'tools'?" in running.log("up")
        assert "(my_teams.py:11)" in running.log("up")
        assert (ended["status"], ended["attempt"]) == ("completed", 2)
        assert client.run(client.enqueue("mine", "hello")["id"], wait_s=60)["status"] == "completed"
        assert [team["versions"] for team in client.teams()] == [after["versions"]]


def test_without_teams_there_is_nothing_to_watch(tmp_path: Path) -> None:
    """It says what to set."""
    command = [*PROGRAM, "up", "--reload", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, env=dict(os.environ), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--reload watches the module of your teams. Set TEAM_SESSIONS_TEAMS to it." in done.stderr
