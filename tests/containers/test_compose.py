"""`docker-compose.yml` is valid, gives nothing away, and works: each command is started as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.support import containers
from tests.support.containers import Machine
from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM, ROOT, wait_until
from worker.settings import Settings, unknown_names

COMPOSE = containers.compose({})
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migration", "api", "worker-runs", "worker-background", "flower"]
BIN = Path(sys.executable).parent
MODEL_PORT = 9000
ASK_METRICS = """
import sys, urllib.request
for port in (8000, 9101):  # of the API, and of a worker
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    asked.add_header("Authorization", "Bearer " + sys.argv[1])
    print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""


@pytest.mark.parametrize(
    "check",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        ["hadolint", "ops/docker/Dockerfile"],
    ],
    ids=["compose", "dockerfile"],
)
def test_the_files_are_valid(check: list[str]) -> None:
    """Against the Compose specification, and in the eyes of the Dockerfile's linter."""
    done = subprocess.run([BIN / check[0], *check[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_user_limits_and_nothing_that_it_could_write_to(name: str) -> None:
    """No root, no privilege, no writable root file system, no limitless use, and no port beyond loopback."""
    service = SERVICES[name]
    published = service.get("ports", [])

    assert service["read_only"] is True
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert re.fullmatch("[1-9][0-9]*:[1-9][0-9]*", service["user"])
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "healthcheck" in service or service["restart"] == "no"
    assert "privileged" not in service
    assert "latest" not in service["image"]


def test_no_service_builds_the_image_that_it_runs() -> None:
    """`TEAM_SESSIONS_IMAGE=mine docker compose up --build` would overwrite the user's image with ours."""
    own = containers.compose({"TEAM_SESSIONS_IMAGE": "mine"})["services"]

    assert {own[name]["image"] for name in OURS} == {"mine"}
    assert [name for name, service in own.items() if "build" in service] == []


def test_no_secret_has_a_default_or_reaches_an_environment() -> None:
    """Secrets are files that `prepare` makes; what stands in an environment is no secret."""
    stated = {name: value for service in SERVICES.values() for name, value in service.get("environment", {}).items()}
    secrets = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}

    assert [name for name in stated if name.removeprefix("TEAM_SESSIONS_").lower() in secrets] == []
    assert [n for n in stated if re.search("PASSWORD|TOKEN|KEY", n) and not n.endswith(("_FILE", "_INITDB_ARGS"))] == []
    assert all(secret["file"] == f"./.secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    assert ".secrets/\n" in (ROOT / ".gitignore").read_text()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_each_name_that_is_set_is_a_setting() -> None:
    """A slip of the pen would be a default at work."""
    stated = {name: "" for service in SERVICES.values() for name in service.get("environment", {})}

    assert len(stated) > 8
    assert unknown_names(stated) == []


def test_what_is_mounted_is_there() -> None:
    """An engine makes an empty directory of a path that is missing."""
    volumes = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    relative = [(source, rest) for source, _, *rest in volumes if source.startswith(".")]

    assert [source for source, _ in relative if not (ROOT / source).exists()] == []
    assert [source for source, rest in relative if rest != ["ro"]] == []


@pytest.mark.parametrize("name", ["worker-runs", "worker-background"])
def test_a_worker_has_time_to_hand_its_runs_over(name: str) -> None:
    """The engine kills 20 s behind the end of the grace that model calls have."""
    service = SERVICES[name]

    assert service["stop_grace_period"] == f"{int(service['environment']['TEAM_SESSIONS_HANDOVER_SECONDS']) + 20}s"


@pytest.fixture
def machine(tmp_path: Path, postgres: PostgresServer) -> Iterator[Machine]:
    """A machine with the secrets that `prepare` makes and an empty database. Without namespaces there is none."""
    if not containers.possible():
        pytest.skip("this machine lets us make no namespaces: root on Linux, with unshare and setpriv, is needed")
    secrets = tmp_path / "secrets"
    subprocess.run([ROOT / "ops/docker/prepare", secrets], env={**os.environ, "OPENAI_API_KEY": "none"}, check=True)
    address = postgres.new_database(empty=True)
    engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE ROLE team_sessions LOGIN"))
        connection.execute(text("CREATE DATABASE team_sessions OWNER team_sessions"))
    standing = Machine(
        tmp_path,
        socket=Path(address.split("host=")[1], ".s.PGSQL.5432"),
        secrets=secrets,
        environment={"OPENAI_BASE_URL": f"http://127.0.0.1:{MODEL_PORT}/v1"},
    )
    yield standing
    standing.close()
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE team_sessions WITH (FORCE)"))
        connection.execute(text("DROP ROLE team_sessions"))
    engine.dispose()
    postgres.drop(address)


@pytest.mark.extended
@pytest.mark.processes
def test_all_services_start_answer_their_probes_execute_a_run_and_stop(machine: Machine) -> None:
    """As PID 1, as users without privileges, with nothing to write to but a /tmp, and with the secrets of `prepare`."""
    machine.beside([sys.executable, "ops/stub_model.py", "--port", str(MODEL_PORT)])
    redis = machine.start("redis")
    migration = machine.start("migration")
    assert migration.wait(60) == 0, migration.log
    running = [machine.start(name) for name in OURS[1:]]

    for container in running:
        wait_until(
            lambda container=container: machine.is_healthy(container),
            description=f"{container.name} is healthy: {container.log}",
            timeout_s=120,
        )
    written = [machine.inside(container, ["touch", "/app/x"]).stderr for container in running]
    key = _keys(machine)
    probe = machine.beside(
        [*PROGRAM, "run", "team", "Hello, I am Ada."],
        TEAM_SESSIONS_URL="http://127.0.0.1:8000",
        TEAM_SESSIONS_KEY=key,
    )
    answer, _ = probe.communicate(timeout=60)
    metrics = machine.beside([sys.executable, "-c", ASK_METRICS, key]).communicate(timeout=120)[0]
    stopped = {container.name: container.stop() for container in [*reversed(running), redis]}

    assert [b"Read-only file system" in message for message in written] == [True] * len(running)
    assert b"team_sessions_" in metrics
    assert b"Hello Ada" in answer, {container.name: container.log for container in running}
    assert {name: code for name, (code, _) in stopped.items()} == dict.fromkeys(stopped, 0)
    assert all("not a setting" not in container.log for container in running)


def _keys(machine: Machine) -> str:
    """Make a key as the handbook says: with the service `migration` and another command."""
    machine.services["migration"]["command"] = ["keys", "create", "--name", "test"]
    making = machine.start("migration")
    assert making.wait(60) == 0, making.log
    return making.log.strip()
