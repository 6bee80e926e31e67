"""Pages whose commands need a running product and nothing special are followed beside one `up`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.system import ROOT, system
from tests.support.typed import BESIDE_UP, FOLLOWED
from tests.support.walk import reader
from worker.store import Database, migrate

pytestmark = [pytest.mark.processes, pytest.mark.extended]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def beside_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`up`, and what a reader has in the environment: where it is, its key, and a run that has ended."""
    directory = tmp_path_factory.mktemp("up")
    url = f"sqlite:///{directory / 'team-sessions.db'}"
    database = Database(url)
    migrate.upgrade(database)
    database.close()
    with system(directory, database_url=url, redis_url="") as running:
        _, client = running.start_up("--workers", "1")
        run = client.enqueue("plain", "hello", user_id="ada", session_id="s")
        client.run(run["id"], wait_s=60)
        yield {
            **running.environment,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TEAM_SESSIONS_URL": (directory / "api-url").read_text().strip(),
            "TEAM_SESSIONS_KEY": (directory / "api-key").read_text().strip(),
            "TEAM_SESSIONS_REDIS_URL": (directory / "broker-url").read_text().strip(),
            "RUN": run["id"],
        }


@pytest.mark.parametrize("page", [page for page, test in FOLLOWED.items() if test == BESIDE_UP])
def test_the_commands_of_a_page_do_what_it_says(page: str, beside_up: dict[str, str], tmp_path: Path) -> None:
    """Each ends with 0 and prints what stands below it."""
    # What the script does where there is an environment already:
    chaos = {"^ops/chaos/run": ".venv/bin/python -m ops.chaos.main"}
    somebody = reader(tmp_path / "there", environment=beside_up, replace=chaos)

    try:
        somebody.follow(ROOT / page)
    finally:
        somebody.close()
