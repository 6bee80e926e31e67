"""The lifespan of a teams module: a worker enters it before it takes a run, and leaves it when it ends."""

import subprocess
from pathlib import Path

import pytest

from tests.support.system import PROGRAM, ROOT, system, wait_until
from tests.support.valkey import ValkeyServer

TEAMS = {"TEAM_SESSIONS_TEAMS": "tests.support.lifespan_teams"}


def test_a_worker_opens_what_its_tools_use_and_closes_it(
    database_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """On the loop of the tools; SIGTERM closes it."""
    journal = tmp_path / "journal"
    with system(
        tmp_path, database_url=database_url, redis_url=valkey.url, settings=TEAMS | {"TEST_LIFESPAN": str(journal)}
    ) as running:
        worker = running.start_worker()
        assert journal.read_text() == "entered\n"
        client = running.start_api()
        ids = [client.enqueue("looks", "[steps=2]", session_id=f"s{n}")["id"] for n in range(3)]
        assert [client.run(run_id, wait_s=60)["status"] for run_id in ids] == ["completed"] * 3
        results = [m["content"] for m in client.messages("s1") if m["role"] == "tool"]
        worker.terminate()
        wait_until(lambda: worker.poll() is not None, description="the worker ends")

    assert results == ["the same loop", "the same loop"]
    assert journal.read_text() == "entered\nleft\n"


@pytest.mark.default_on("sqlite")
def test_a_worker_whose_lifespan_fails_says_so_and_ends(
    database_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """It takes no run."""
    with system(
        tmp_path, database_url=database_url, redis_url=valkey.url, settings=TEAMS | {"TEST_LIFESPAN": "no"}
    ) as running:
        done = subprocess.run(
            [*PROGRAM, "worker"],
            env=running.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert done.returncode == 2
    assert "its lifespan failed: ConnectionError: no pool here" in done.stderr
