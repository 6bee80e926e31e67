"""Commands use nothing in the data directory that another user of the machine can have written."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.system import PROGRAM, ROOT
from worker.cli import data_directory
from worker.errors import DirectoryTaken
from worker.store import Database, migrate

NAMES = ["api-url", "api-key", "flower-url", "flower-login", "broker-url", "up.lock"]
DATABASE = ["team-sessions.db", "team-sessions.db-wal", "team-sessions.db-shm", "team-sessions.db-journal"]


def run(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with *directory* as its data directory."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TEAM_SESSIONS_")}
    return subprocess.run(
        [*PROGRAM, *arguments],
        env={**inherited, "TEAM_SESSIONS_DATA_DIR": str(directory)},
        cwd=directory.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def to_a_file_of_yours(path: Path) -> None:
    """What `up` writes would replace it."""
    victim = path.parent.parent / "victim"
    victim.write_text("precious\n")
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


def to_all(path: Path) -> None:
    """Let all users write the file."""
    path.touch()
    path.chmod(0o666)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a database, as `up` makes it."""
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    with closing(Database(f"sqlite:///{made / 'team-sessions.db'}")) as database:
        migrate.upgrade(database)
    (made / "team-sessions.db").chmod(0o600)
    return made


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("api-url", to_a_file_of_yours),
        ("team-sessions.db", to_all),
        *(
            pytest.param(name, plant, marks=pytest.mark.extended)
            for name in (*NAMES, *DATABASE)
            for plant in (to_a_file_of_yours, to_all)
        ),
    ],
)
def test_up_does_not_start_with_a_planted_file(data: Path, name: str, plant: Callable[[Path], None]) -> None:
    """It names the file, says what to do, and changes nothing."""
    plant(data / name)
    before = {path.name: path.read_bytes() for path in (*data.iterdir(), *data.parent.iterdir()) if path.is_file()}

    done = run(data, "up")

    assert done.returncode == 2
    assert f"The data directory cannot be trusted. {str(data / name)!r} " in done.stderr
    assert "Remove it." in done.stderr or "chmod go-w" in done.stderr
    assert "Traceback" not in done.stderr
    after = {path.name: path.read_bytes() for path in (*data.iterdir(), *data.parent.iterdir()) if path.is_file()}
    assert after == before


@pytest.mark.extended
@pytest.mark.parametrize("command", [["keys", "list"], ["db", "upgrade"], ["db", "retention"], ["api"], ["worker"]])
def test_no_command_opens_a_planted_database(data: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is created there, or a run, would be another user's."""
    data.chmod(0o777)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")

    done = run(data, *command)

    assert done.returncode == 2
    assert f"{str(data)!r} can be changed by other users (mode 0777)." in done.stderr


@pytest.mark.extended
def test_a_secret_that_others_can_read_is_not_used(data: Path) -> None:
    """They may have its key."""
    (data / "api-key").touch(mode=0o600)
    (data / "api-key").chmod(0o604)

    done = run(data, "up")

    assert done.returncode == 2
    assert "can be read by other users (mode 0604)" in done.stderr
    assert "chmod 600" in done.stderr


def test_a_database_is_made_for_its_user_alone(tmp_path: Path) -> None:
    """By whatever command makes it; one that was not is mended."""
    (tmp_path / "data").mkdir(mode=0o700)
    file = tmp_path / "data/team-sessions.db"

    run(tmp_path / "data", "db", "upgrade")
    made = file.stat().st_mode & 0o777
    file.chmod(0o644)
    run(tmp_path / "data", "db", "upgrade")

    assert (made, file.stat().st_mode & 0o777) == (0o600, 0o600)


def test_one_directory_is_locked_under_each_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, absolute, through a link. The lock ends with its process, however that ends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_directory, "WAIT_S", 0.0)
    (tmp_path / "link").symlink_to("data")
    holder = "import time; from pathlib import Path; from worker.cli import data_directory as d; "
    holder += "d.lock(d.make(Path('data'))); print('locked', flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        for name in ("data", tmp_path / "data", "link", "link/../data"):
            with pytest.raises(DirectoryTaken, match=f"process {process.pid}, uses"):
                data_directory.lock(data_directory.make(Path(name)))
        process.kill()

    os.close(data_directory.lock(data_directory.make(Path("link"))))


@pytest.mark.extended
def test_the_doctor_names_what_cannot_be_trusted(data: Path) -> None:
    """As `up` does, and does not use it."""
    to_a_file_of_yours(data / "flower-login")

    done = run(data, "doctor", "--json")

    assert '"data_dir_untrusted"' in done.stdout
    assert "flower-login" in done.stdout
