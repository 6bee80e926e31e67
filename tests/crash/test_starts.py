"""A worker takes nothing before it has all that it needs, and whatever is away while it starts may come later."""

import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import look
from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.queue.embedded import free_port
from worker.store import teams

pytestmark = [pytest.mark.processes, pytest.mark.extended]
WORKER = [*PROGRAM, "worker"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"TEAM_SESSIONS_TEAMS": "no_such_module"}, "no_such_module"),
        ({"TEAM_SESSIONS_DATABASE_URL": "sqlite:///{directory}/new.db"}, "team-sessions db upgrade"),
    ],
    ids=["no teams", "no tables"],
)
def test_a_worker_that_cannot_execute_runs_takes_none(running: System, wrong: dict[str, str], said: str) -> None:
    """Without its teams or its tables it ends before it consumes, and says what to do; the run waits for another."""
    good = running.start_worker()
    client = running.start_api()
    good.terminate()
    good.wait(timeout=120)
    run = client.enqueue("plain", "anybody?", session_id="s", user_id="u")

    settings = {name: value.format(directory=running.directory) for name, value in wrong.items()}
    worker = running.start("wrong", WORKER, environment={**running.environment, **settings})
    code = worker.wait(timeout=120)
    waiting = look.row(running.db, run["id"])
    running.start_worker()
    done = client.run(run["id"], wait_s=60)

    assert code == 2
    assert said in running.log("wrong")
    assert "Traceback" not in running.log("wrong")
    assert (waiting.status, waiting.attempt) == ("queued", 0)
    assert (done["status"], done["attempt"]) == ("completed", 1)


def test_a_worker_whose_database_goes_away_while_it_starts_sweeps_once_it_is_back(tmp_path: Path) -> None:
    """It waits for its broker; when that comes, the database has gone. With both back it announces itself and works."""
    with (
        closing(PostgresServer(durable=True)) as postgres,
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url) as running,
    ):
        valkey.kill()
        running.start("worker-1", WORKER, environment=running.environment)
        wait_until(lambda: "Cannot connect" in running.log("worker-1"), description="it waits for the broker")

        postgres.stop(mode="immediate")
        valkey.start()
        wait_until(lambda: "could not announce" in running.log("worker-1"), description="it has begun")
        postgres.start()

        def live() -> bool:
            with running.db.read() as tx:
                return bool(teams.live(tx))

        wait_until(live, description="it has announced itself")
        client = running.start_api()
        run = client.run(client.enqueue("plain", "there?", session_id="s", user_id="u")["id"], wait_s=60)

        assert run["status"] == "completed"


@pytest.mark.parametrize("option", ["--port", "--flower-port"])
def test_up_says_which_port_is_taken(tmp_path: Path, new_sqlite: Callable[[], str], option: str) -> None:
    """It starts nothing: what answers there would be taken for its own. The other `up` keeps its files."""
    with socket.socket() as other, system(tmp_path, database_url=new_sqlite(), redis_url="") as running:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "api-url").write_text("of the other")
        ports = {"--port": free_port(), "--flower-port": free_port(), option: port}

        options = [word for name, number in ports.items() for word in (name, str(number))]
        code = running.start("up", [*PROGRAM, "up", *options], environment=running.environment).wait(timeout=120)

        assert code == 2
        assert f"Port {port} of 127.0.0.1 cannot be used (Address already in use)." in running.log("up")
        assert option in running.log("up")
        assert not (tmp_path / "broker-url").exists()
        assert (tmp_path / "api-url").read_text() == "of the other"


def test_a_second_up_in_one_directory_is_refused(tmp_path: Path, new_sqlite: Callable[[], str]) -> None:
    """Also with other ports; the first is named, and keeps its files. Once it is killed, the next one starts."""

    def ports() -> list[str]:
        return ["--port", str(free_port()), "--flower-port", str(free_port())]

    with system(tmp_path, database_url=new_sqlite(), redis_url="") as running:
        first, client = running.start_up("--workers", "1")
        address = (tmp_path / "api-url").read_text()
        second = running.start("second", [*PROGRAM, "up", *ports()], environment=running.environment)
        code = second.wait(timeout=120)
        kept = (tmp_path / "api-url").read_text() == address and client.run(client.enqueue("plain", "hi")["id"])
        mode = (tmp_path / "up.lock").stat().st_mode & 0o777
        greeting = running.log("up")
        first.kill()
        first.wait()
        (tmp_path / "up.log").unlink()
        third, _ = running.start_up("--workers", "1")
        third.terminate()
        third.wait(timeout=120)

    assert (code, mode) == (2, 0o600)
    assert f"Another 'team-sessions up', process {first.pid}, uses the data directory" in running.log("second")
    assert f"kill {first.pid}" in running.log("second")
    assert kept
    assert "overcommit" not in greeting


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "0"),
        ("--port", "65536"),
        ("--flower-port", "x"),
        ("--port", "9001", "--flower-port", "9001"),
        ("--workers", "0"),
        ("--concurrency", "-1"),
    ],
    ids=" ".join,
)
def test_a_number_that_cannot_be_is_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Before anything is made or started."""
    done = subprocess.run([*PROGRAM, "up", *options], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "Traceback" not in done.stderr
    assert options[0] in done.stderr


def test_an_address_of_ipv6_is_written_with_brackets(tmp_path: Path, new_sqlite: Callable[[], str]) -> None:
    """So that commands and people reach it."""
    with system(tmp_path, database_url=new_sqlite(), redis_url="") as running:
        port = free_port()
        options = ["--host", "::1", "--port", str(port), "--flower-port", str(free_port()), "--workers", "1"]
        running.start("up", [*PROGRAM, "up", *options], environment=running.environment)
        running.wait_for_log("up", "Ready.")
        done = subprocess.run([*PROGRAM, "teams"], env=running.environment, capture_output=True, text=True, check=False)

        assert (tmp_path / "api-url").read_text() == f"http://[::1]:{port}\n"
        assert done.returncode == 0, done.stderr
        assert "plain" in done.stdout


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """In one sentence: it is a file, or below one."""
    (tmp_path / "file").touch()

    for directory in ("file", "file/below"):
        command = [*PROGRAM, "up", "--data-dir", directory]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "file" in done.stderr


def test_a_key_of_a_database_without_tables_says_what_comes_first(empty_url: str) -> None:
    """Whoever begins with the key is told to migrate, on both databases."""
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": empty_url}
    command = [*PROGRAM, "keys", "create", "--name", "shop"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "Run 'team-sessions db upgrade' first." in done.stderr
    assert "Traceback" not in done.stderr


def test_an_api_without_a_broker_to_look_for_says_so(tmp_path: Path) -> None:
    """In one sentence, and it listens to nobody."""
    environment = {**os.environ, "TEAM_SESSIONS_DATA_DIR": str(tmp_path)}

    done = subprocess.run([*PROGRAM, "api"], env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "TEAM_SESSIONS_REDIS_URL is not set." in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
