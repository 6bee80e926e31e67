"""The README's code runs, and prints what stands beside it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.system import PROGRAM, ROOT, System, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port

README = (ROOT / "README.md").read_text()


def test_the_first_examples_print_what_the_readme_says(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer
) -> None:
    """With `team-sessions up` running, the ten lines enqueue two runs and print their answers; a service goes on."""
    example = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", README, flags=re.DOTALL)
    service = re.search(r"```python\n(import asyncio.*?)```", README, flags=re.DOTALL)
    assert example is not None
    assert service is not None
    port, flower_port = str(free_port()), str(free_port())
    system = System(tmp_path, database_url=new_sqlite(), redis_url=valkey.url)
    environment = {k: v for k, v in system.environment.items() if not k.startswith("TEAM_SESSIONS_")}
    options = ["--data-dir", str(tmp_path / ".team-sessions"), "--port", port, "--flower-port", flower_port]
    up = system.start("up", [*PROGRAM, "up", *options], environment=environment)
    wait_until(lambda: "Ready." in system.log("up"), description="up is ready", timeout_s=90)

    first, then = (
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
        for code in (example[1], service[1])
    )
    up.send_signal(signal.SIGTERM)
    up.wait(timeout=60)
    system.close()

    assert first.stdout == example[2], first.stderr
    assert then.stdout == "completed Your name is Ada, as you told me.\n6 messages\n", then.stderr


def test_the_second_example_is_a_team_that_a_worker_can_serve(tmp_path: Path) -> None:
    """The module of the README imports, and its team is found by its id."""
    code = re.search(r"```python\n(# my_teams\.py\n.*?)```", README, flags=re.DOTALL)
    assert code is not None
    (tmp_path / "my_teams.py").write_text(code[1])
    script = "from worker.settings import load; from worker.served import served; print(*served(load()))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TEAM_SESSIONS_TEAMS": "my_teams"}

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["support"], done.stderr


def test_the_script_of_the_readme_remembers(tmp_path: Path, model_server: str) -> None:
    """It runs with nothing but the library, and the second answer knows the first."""
    code = re.search(r"```python\n(from worker import Agent.*?)```", README, flags=re.DOTALL)
    assert code is not None
    environment = {**os.environ, "OPENAI_BASE_URL": model_server, "OPENAI_API_KEY": "none"}
    script = [sys.executable, "-c", code[1]]

    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "Your name is Ada" in done.stdout.splitlines()[1], done.stderr
    assert done.stderr == ""
