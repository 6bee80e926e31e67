"""`team-sessions doctor` on what is well, and on nothing at all."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import select

from tests.doctor.house import CHECKS, House
from tests.support.system import PROGRAM, wait_until
from tests.support.terminal import Terminal
from worker.store import tables


def test_all_is_well(installed: House) -> None:
    """Every part was looked at, none is left out, and the code is 0."""
    found = wait_until(lambda: (asked := installed.ask()).ill == {} and asked, description="all is well")

    assert (found.code, {line["level"] for line in found.lines}) == (0, {"ok"})
    details = {line["check"]: line["detail"] for line in found.lines}
    assert details["database"].startswith("SQLite 3." if installed.is_sqlite else "Postgres ")
    assert "Valkey" in details["broker"]
    assert "evicts nothing" in details["broker"]
    assert "plain" in details["teams"]


def test_people_are_told_line_by_line(installed: House) -> None:
    """A line for each check, what to do beneath, all of it within 80 columns; into a pipe without colours."""
    well, ill = installed.run(), installed.run(TEAM_SESSIONS_LEASE_SECONDS="x", COLUMNS="80")

    names = [line[3:17].strip() for line in well.stdout.splitlines() if line.startswith("✓")]
    assert list(dict.fromkeys(names)) == list(CHECKS)
    assert well.stdout.splitlines()[-1] == "All is well."
    assert ill.stdout.splitlines()[0].startswith("✗  settings        TEAM_SESSIONS_LEASE_SECONDS: ")
    assert "                   → Correct it, or unset it to use its default." in ill.stdout.splitlines()
    assert ill.stdout.splitlines()[-1] == "1 failed."
    assert max(map(len, ill.stdout.splitlines())) <= 80
    assert "\x1b" not in well.stdout + well.stderr + ill.stdout + ill.stderr
    assert (well.returncode, ill.returncode, well.stderr) == (0, 1, "")


def test_a_terminal_shows_how_far_it_is(installed: House) -> None:
    """A bar while it looks, then the lines."""
    terminal = Terminal([*PROGRAM, "doctor"], environment=installed.system.environment, directory=installed.directory)
    try:
        assert terminal.end() == 0

        assert "Looking" in terminal.screen
        assert "All is well." in terminal.screen
        assert "\x1b[32m✓" in terminal.raw
    finally:
        terminal.close()


def test_a_terminal_that_knows_no_signs_is_told_in_letters(installed: House) -> None:
    """Its encoding is asked first."""
    told = installed.run(PYTHONIOENCODING="ascii", TEAM_SESSIONS_LEASE_SECONDS="x")

    assert told.stdout.startswith("X  settings")
    assert "ok broker" in told.stdout


def test_where_nothing_is_installed_it_says_how_to_begin(tmp_path: Path) -> None:
    """No file is made by looking for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEAM_SESSIONS_")}

    done = subprocess.run(
        [*PROGRAM, "doctor"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "Start 'team-sessions up'" in done.stdout
    assert "OPENAI_API_KEY" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_machine_that_only_uses_an_api(installed: House, tmp_path: Path) -> None:
    """It needs no database, no broker and no key of a model; with a URL alone only the API is checked."""
    api = {"TEAM_SESSIONS_URL": installed.system.url, "TEAM_SESSIONS_KEY": installed.system.key}
    others = ("TEAM_SESSIONS_DATABASE_URL", "TEAM_SESSIONS_REDIS_URL", "TEAM_SESSIONS_TEAMS", "OPENAI_API_KEY")

    found = installed.ask(unset=others, TEAM_SESSIONS_DATA_DIR=str(tmp_path / "none"), **api)

    assert (found.code, found.ill, list(tmp_path.iterdir())) == (0, {}, [])
    assert [line["check"] for line in found.lines if line["level"] == "ok"] == ["settings", "api"]


def test_a_terminal_without_the_module_of_the_workers(installed: House) -> None:
    """It does not say that the plain team is served where another one is."""
    found = installed.ask(unset=("TEAM_SESSIONS_TEAMS",))

    (line,) = (line for line in found.lines if line["check"] == "teams")
    assert line["level"] == "skipped"
    assert "Live workers serve blocks, charges, condensed" in line["detail"]


def test_looking_leaves_nothing_behind(installed: House) -> None:
    """What it writes to try the database is seen by nobody; its key of the broker goes by itself."""
    with installed.system.db.read() as tx:
        before = set(tx.execute(select(tables.teams.c.worker)).scalars())

    installed.ask()

    with installed.system.db.read() as tx:
        assert set(tx.execute(select(tables.teams.c.worker)).scalars()) == before
    with Redis.from_url(installed.valkey.url) as redis:
        wait_until(lambda: not list(redis.scan_iter("*doctor*")), description="the key is gone")


@pytest.mark.extended
def test_a_worker_that_stands_still(installed: House) -> None:
    """It is told by its process; when it goes on, all is well again."""
    worker = installed.background
    installed.system.freeze(worker.pid)

    found = wait_until(
        lambda: (asked := installed.ask()).ill.get("worker_silent") and asked, description="told", timeout_s=90
    )

    os.kill(worker.pid, signal.SIGCONT)
    assert f"process {worker.pid} on " in found.told("worker_silent")[0]
    assert found.ill["queue_not_consumed"] == "warning"
    wait_until(lambda: installed.ask().ill == {}, description="all is well again")
