"""`team-sessions doctor` names what is wrong: settings, teams, files, model, doors. Each is really so."""

import os
import secrets
import sys
from pathlib import Path

import pytest

from tests.doctor.house import House, answering, answers, configured, like_any_user
from tests.support.system import wait_until
from worker.queue.embedded import free_port

# None of this has to do with the kind of database; what has is in test_database.
pytestmark = pytest.mark.parametrize("installed", ["sqlite"], indirect=True)
PASSWORD = "hunter2"  # the house looks for it in whatever the doctor says


@pytest.mark.extended
def test_a_setting_that_there_is_none_of(installed: House) -> None:
    """It has no effect, so it is a warning; the one that was meant is named."""
    found = installed.ask(TEAM_SESSIONS_LEASE_SECOND="20")

    assert (found.code, found.ill) == (0, {"setting_unknown": "warning"})
    detail, _advice = found.told("setting_unknown")
    assert detail == "TEAM_SESSIONS_LEASE_SECOND is not a setting. Did you mean TEAM_SESSIONS_LEASE_SECONDS?"


def test_every_mistake_in_the_settings(installed: House) -> None:
    """Each by its name and without its value; what does not depend on them is looked at with what can be read."""
    wrong = {
        "TEAM_SESSIONS_LEASE_SECONDS": "soon",
        "TEAM_SESSIONS_DATABASE_URL": f"mysql://ada:{PASSWORD}@db/x",
        "TEAM_SESSIONS_REDIS_URL": f"redis://:{PASSWORD}@cache:port/0",
        "OPENAI_BASE_URL": "model.example",
    }

    found = installed.ask(**wrong)

    mistakes = [line["detail"] for line in found.lines if line["code"] == "setting_invalid"]
    assert (found.code, sorted(detail.split(":")[0] for detail in mistakes)) == (1, sorted(wrong))
    left_out = {line["check"] for line in found.lines if line["level"] == "skipped"}
    assert left_out == {"database", "writing", "workers", "runs", "summaries", "broker", "model"}
    assert found.ill == {"setting_invalid": "failed"}


@pytest.mark.extended
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from worker import Team\na = Team(id='one')\nb = Team(id='one')\n", "it has two teams of id 'one'"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("raise SystemExit(7)\n", "it ends the program (SystemExit 7)"),
        ("print('hello')\nteam = 1\n", "it has no Team in its namespace"),
    ],
    ids=["two of one id", "no such import", "ends the program", "no team"],
)
def test_a_module_of_teams_that_cannot_be_served(installed: House, tmp_path: Path, text: str, problem: str) -> None:
    """It is said what is wrong with it; a module that prints, or ends the program, ends nothing here."""
    name = f"teams_{secrets.token_hex(4)}"
    (tmp_path / f"{name}.py").write_text(text)
    path = f"{tmp_path}{os.pathsep}{installed.system.environment['PYTHONPATH']}"

    found = installed.ask(TEAM_SESSIONS_TEAMS=name, PYTHONPATH=path)

    assert (found.code, found.ill["teams_invalid"]) == (1, "failed")
    detail, advice = found.told("teams_invalid")
    assert f"TEAM_SESSIONS_TEAMS='{name}' cannot be served: {problem}" in detail
    assert f"import {name}" in advice


@pytest.mark.extended
def test_a_module_of_teams_that_is_never_imported_to_its_end(installed: House, tmp_path: Path) -> None:
    """It holds up nothing but what needs it."""
    name = f"teams_{secrets.token_hex(4)}"
    (tmp_path / f"{name}.py").write_text("import threading\nthreading.Event().wait()\n")
    path = f"{tmp_path}{os.pathsep}{installed.system.environment['PYTHONPATH']}"

    found = installed.ask("--within", "10", TEAM_SESSIONS_TEAMS=name, PYTHONPATH=path)

    silent = {line["check"] for line in found.lines if line["code"] == "no_answer"}
    assert (found.code, silent) == (1, {"teams", "model", "workers"})


@pytest.mark.extended
def test_teams_that_no_worker_serves(installed: House) -> None:
    """The module was changed, and the workers were not restarted."""
    found = installed.ask(TEAM_SESSIONS_TEAMS="ops.examples.demo_teams")

    assert found.ill["team_not_served"] == "warning"
    assert "Restart the workers" in found.told("team_not_served")[1]


@pytest.mark.extended
def test_a_data_directory_that_cannot_be_written(installed: House, tmp_path: Path) -> None:
    """For the user whom the doctor runs as."""
    tmp_path.chmod(0o500)

    found = installed.ask("--data-dir", str(tmp_path), bounds=like_any_user)

    tmp_path.chmod(0o700)
    assert (found.code, found.ill) == (1, {"data_dir_not_writable": "failed"})
    assert "chown" in found.told("data_dir_not_writable")[1]


@pytest.mark.extended
def test_a_key_that_others_of_the_machine_can_read(installed: House) -> None:
    """The mode is told, and the command that mends it."""
    key = installed.directory / "api-key"
    key.chmod(0o644)

    found = installed.ask()

    key.chmod(0o600)
    assert (found.code, found.ill) == (1, {"file_open_to_others": "failed"})
    detail, advice = found.told("file_open_to_others")
    assert "api-key" in detail
    assert "0644" in detail
    assert advice.startswith(f"chmod 600 {key}.")


@pytest.mark.extended
@pytest.mark.parametrize(
    ("text", "problem"), [("{", "is not JSON"), ('{"*": {"input": -1, "output": 1}}', "no valid prices for '*'")]
)
def test_prices_that_cannot_be_read(installed: House, tmp_path: Path, text: str, problem: str) -> None:
    """Whatever is wrong with the file."""
    file = tmp_path / "prices.json"
    file.write_text(text)

    found = installed.ask(TEAM_SESSIONS_PRICES=str(file))

    assert (found.code, found.ill) == (1, {"prices_unreadable": "failed"})
    assert problem in found.told("prices_unreadable")[0]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ({"/v1/models": 401}, "model_key_refused"),
        ({"/v1/models": 403}, "model_key_refused"),
        ({"/v1/chat/completions": 401}, "model_key_refused"),
        ({}, "model_wrong_address"),
        ({"/v1/models": 200}, "model_wrong_address"),
        ({"/v1/models": 503}, "model_failing"),
    ],
    ids=["401", "403", "401 without a list", "404", "no list", "503"],
)
def test_a_model_that_cannot_be_asked(installed: House, statuses: dict[str, int], code: str) -> None:
    """A key that is refused is told from an address that is wrong."""
    with answering(statuses) as url:
        found = installed.ask(OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY=PASSWORD)

    assert (found.code, found.ill) == (1, {code: "failed"})
    assert "OPENAI_" in found.told(code)[1] or code == "model_failing"


@pytest.mark.extended
def test_a_model_that_is_not_there(installed: House) -> None:
    """Nobody listens at its address."""
    found = installed.ask(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")

    assert (found.code, found.ill) == (1, {"model_away": "failed"})


@pytest.mark.extended
def test_a_model_without_a_key(installed: House) -> None:
    """The client library would not even be made."""
    found = installed.ask(unset=("OPENAI_API_KEY",))

    assert (found.code, found.ill) == (1, {"model_no_key": "failed"})


def test_a_key_that_the_api_refuses(installed: House) -> None:
    """It is one of another installation."""
    found = installed.ask(TEAM_SESSIONS_KEY=f"ts_0123456789abcdef_{PASSWORD}", TEAM_SESSIONS_URL=installed.system.url)

    assert (found.code, found.ill) == (1, {"api_key_refused": "failed"})


@pytest.mark.extended
def test_an_api_that_is_not_there(installed: House) -> None:
    """Something was named, and nobody listens there."""
    found = installed.ask(TEAM_SESSIONS_URL=f"http://127.0.0.1:{free_port()}")

    assert (found.code, found.ill) == (1, {"api_away": "failed"})


@pytest.mark.extended
def test_an_api_that_listens_to_other_machines(installed: House) -> None:
    """`up --host 0.0.0.0` writes that it does; without TLS before it that is a warning."""
    port = installed.system.url.rsplit(":", 1)[1]
    installed.write("api-url", f"http://0.0.0.0:{port}")

    found = installed.ask()

    installed.write("api-url", installed.system.url)
    assert (found.code, found.ill) == (0, {"listens_publicly": "warning"})


@pytest.mark.extended
def test_a_flower_with_another_login(installed: House) -> None:
    """The login file was rewritten, and Flower was not restarted."""
    login = (installed.directory / "flower-login").read_text()
    installed.write("flower-login", f"flower:{PASSWORD}")

    found = installed.ask()

    installed.write("flower-login", login.strip())
    assert (found.code, found.ill) == (1, {"flower_login": "failed"})


@pytest.mark.extended
def test_a_flower_that_wants_no_login(installed: House) -> None:
    """One that was started by hand beside ours."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "celery", "-b", installed.valkey.url, "flower", f"--port={port}"]
    process = installed.system.start("open-flower", [*command, "--address=127.0.0.1"], environment=os.environ)
    wait_until(lambda: answers(url), description="it answers")

    found = installed.ask("--flower-url", url)

    process.kill()
    process.wait()
    assert (found.code, found.ill) == (1, {"flower_open": "failed"})


def test_ten_troubles_at_once(installed: House, tmp_path: Path) -> None:
    """Each is named, whatever else is wrong."""
    (tmp_path / "prices.json").write_text("{")
    (tmp_path / "twins.py").write_text("from worker import Team\na = Team(id='one')\nb = Team(id='one')\n")
    key = installed.directory / "api-key"
    key.chmod(0o640)

    with answering({"/v1/models": 401}) as model, configured(installed, **{"maxmemory-policy": "allkeys-random"}):
        found = installed.ask(
            "--flower-url",
            f"http://127.0.0.1:{free_port()}",
            TEAM_SESSIONS_LEASE="15",
            TEAM_SESSIONS_MAX_TURNS="none",
            TEAM_SESSIONS_PRICES=str(tmp_path / "prices.json"),
            TEAM_SESSIONS_TEAMS="twins",
            PYTHONPATH=f"{tmp_path}{os.pathsep}{installed.system.environment['PYTHONPATH']}",
            TEAM_SESSIONS_DATABASE_URL=f"postgresql://ada:{PASSWORD}@127.0.0.1:{free_port()}/none",
            TEAM_SESSIONS_URL=f"http://127.0.0.1:{free_port()}",
            OPENAI_BASE_URL=f"{model}/v1",
        )

    key.chmod(0o600)
    assert found.ill == {
        "setting_unknown": "warning",
        "setting_invalid": "failed",
        "teams_invalid": "failed",
        "prices_unreadable": "failed",
        "file_open_to_others": "failed",
        "database_refused": "failed",
        "broker_evicts": "failed",
        "model_key_refused": "failed",
        "api_away": "failed",
        "flower_away": "failed",
    }
    assert found.code == 1
