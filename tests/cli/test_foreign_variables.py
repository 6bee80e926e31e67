"""Whatever other programs have in the environment and beside the teams, the product does what it does without."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM, ROOT, system, wait_until
from tests.support.valkey import ValkeyServer
from tests.support.variables import foreign
from worker.queue.embedded import free_port

START = [sys.executable, "-m", "team_sessions"]
TEAMS = """
from worker import OpenAIChat, Team
team = Team(id="team", model=OpenAIChat(id="rules"))
"""
OF_SHOP = "raise SystemExit('a file of the shop was imported')"
CLIENTS = """
import asyncio
from api_stub.client import AsyncClient, Client
with Client() as client:
    print(client.run(client.enqueue("team", "Hello, I am Ada.")["id"], wait_s=60)["output"])
async def ask():
    async with AsyncClient() as client:
        return await client.run((await client.enqueue("team", "Hello, I am Zoe."))["id"], wait_s=60)
print(asyncio.run(ask())["output"])
"""
COMMANDS = {
    "run": [*START, "run", "team", "Hello, I am Ada."],
    "clients": [sys.executable, "-P", "-c", CLIENTS],
    "teams": [*START, "teams", "--json"],
    "runs": [*START, "runs", "list", "--json"],
    "doctor": [*START, "doctor", "--json", "--within", "60"],
}
SAID = {  # what may be said of variables that others share with us
    "OTEL_EXPORTER_OTLP_ENDPOINT is ignored: no traces are sent",
    "variables of libpq are ignored: name their values in the database's URL",
}


def at_least_three_hundred(shift: int = 0) -> dict[str, str]:
    """Return variables of others, with odd values."""
    variables = foreign(shift=shift)
    assert len(variables) > 300
    assert {"CELERY_BROKER_URL", "PGTZ", "FLOWER_BASIC_AUTH", "OTEL_BSP_MAX_QUEUE_SIZE", "HTTP_PROXY"} <= set(variables)
    return variables


def without_numbers(text: str) -> str:
    """Return *text* without ids, ports and times."""
    return re.sub(r"(run|ses)_[0-9a-f]+|[0-9a-f]{8,}|[0-9.]+", "#", text)


def warnings(log: str) -> set[str]:
    """Return what processes have logged above INFO."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {line.get("text", "?") for line in lines if line.get("level") in ("WARNING", "ERROR", "CRITICAL")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a model server."""
    port = free_port()
    command = [sys.executable, str(ROOT / "ops/stub_model.py"), "--port", str(port)]
    with (tmp_path_factory.mktemp("model") / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.wait()


@contextmanager
def up(directory: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """`team-sessions up` in *directory*, for the block."""
    ports = ["--port", str(free_port()), "--flower-port", str(free_port()), "--workers", "1", "--concurrency", "4"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([*START, "up", *ports], env=environment, cwd=directory, stdout=log, stderr=log)
    try:
        said = directory / "log"
        wait_until(lambda: process.poll() is not None or b"Ready." in said.read_bytes(), description=f"{said}: Ready")
        assert process.poll() is None, said.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
    assert code == 0


def behaviour(directory: Path, environment: Mapping[str, str]) -> dict[str, object]:
    """Return what `up`, its processes, the commands and both clients do in *environment*."""
    done: dict[str, subprocess.CompletedProcess[str]] = {}
    with up(directory, environment):
        for name, command in COMMANDS.items():
            # A client is imported in the user's own process: which packages it finds there is the user's matter.
            own = {**environment, "PYTHONPATH": ""} if name == "clients" else environment
            done[name] = subprocess.run(command, env=own, cwd=directory, capture_output=True, text=True, check=False)
    found = json.loads(done["doctor"].stdout)
    listed = map(json.loads, done["runs"].stdout.splitlines())
    said = {name: (d.returncode, d.stdout) for name, d in done.items() if name not in ("doctor", "runs")}
    return {
        "said": {name: (code, without_numbers(text)) for name, (code, text) in said.items()},
        "complaints": {name: without_numbers(d.stderr) for name, d in done.items()},
        "runs": [(run["status"], run["error"]) for run in listed],
        "doctor": [(f["check"], f["level"], f["code"], without_numbers(f["detail"])) for f in found],
        "warnings": warnings((directory / "log").read_text()) - SAID,
    }


def beside_the_shop(directory: Path, model: str, variables: Mapping[str, str]) -> dict[str, object]:
    """Start everything in a directory with files of another project."""
    shop = directory / "shop"
    (shop / "worker").mkdir(parents=True)
    for file in ("worker.py", "api_stub.py", "ops.py", "shop/worker/__init__.py", "shop/api_stub.py"):
        if variables:
            (directory / file).write_text(OF_SHOP)
    (directory / "my_teams.py").write_text(TEAMS)
    own = {
        "TEAM_SESSIONS_TEAMS": "my_teams",
        "TEAM_SESSIONS_LOG_STYLE": "json",
        "OPENAI_API_KEY": "none\n",
        "OPENAI_BASE_URL": f" {model} ",
        "PYTHONPATH": str(shop) if variables else "",
    }
    places = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return behaviour(directory, {**variables, **places, **own})


@pytest.mark.extended
@pytest.mark.parametrize("shift", range(0, 8, 3))
def test_variables_and_files_of_others_change_nothing(tmp_path: Path, model: str, shift: int) -> None:
    """`up`, worker, API, Flower, commands and both clients do the same, with all that the packages may read set."""
    clean, full = tmp_path / "clean", tmp_path / "full"

    with ThreadPoolExecutor() as pool:
        expected = pool.submit(beside_the_shop, clean, model, {})
        found = pool.submit(beside_the_shop, full, model, at_least_three_hundred(shift))

    assert found.result() == expected.result()
    assert "completed" in str(found.result()["runs"])
    assert [*full.rglob("*.db-journal"), *full.rglob("flower.db*")] == []


@pytest.mark.extended
@pytest.mark.parametrize("shift", range(1, 8, 3))
def test_workers_with_a_database_of_their_own_neither(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer, shift: int
) -> None:
    """With Postgres, whose library reads thirty variables, and another program's broker in the environment."""
    url = postgres.new_database()
    variables = at_least_three_hundred(shift)
    with system(tmp_path, database_url=url, redis_url=valkey.url, settings=variables) as running:
        running.start_worker()
        client = running.start_api()
        run = client.wait(client.enqueue("plain", "Hello, I am Ada.")["id"], timeout_s=60)
        command = [*PROGRAM, "keys", "list"]
        keys = subprocess.run(command, env=running.environment, capture_output=True, text=True, check=True)

        assert run["status"] == "completed"
        assert "test" in keys.stdout
        assert {*warnings(running.log("worker-1")), *warnings(running.log("api"))} <= SAID
    postgres.drop(url)
