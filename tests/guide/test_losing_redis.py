"""The runbook of a lost Redis, followed while it is gone."""

from pathlib import Path

import pytest

from tests.support import look
from tests.support.pages import RUNBOOKS, commands, follow
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = [pytest.mark.processes, pytest.mark.extended]
PAGE = "losing-redis.md"
LOOK = "Check that it is Redis"


def test_every_command_of_the_page_is_followed_below() -> None:
    """There is one block: nothing has to be done."""
    assert set(commands(RUNBOOKS / PAGE)) == {LOOK}


def test_what_the_page_says_is_seen_and_nothing_has_to_be_done(tmp_path: Path, database_url: str) -> None:
    """With runs running and waiting Redis dies; what runs completes, what is new is accepted, then all does."""
    valkey = ValkeyServer()
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": "5"}
    with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running:
        running.start_worker(concurrency=2)
        client = running.start_api()
        environment = running.environment | {"TEAM_SESSIONS_URL": running.url, "TEAM_SESSIONS_KEY": running.key}
        busy = [client.enqueue("with-tool", "x [steps=2] [delay=1]", user_id="u", session_id=f"s{n}") for n in range(2)]
        wait_until(lambda: look.count(running.db, "running") == 2, description="both slots are taken")
        behind = [client.enqueue("with-tool", "x", user_id="u", session_id=f"s{n}") for n in range(4)]

        valkey.kill()
        late = client.enqueue("plain", "x", user_id="u")
        done = [client.run(run["id"], wait_s=60)["status"] for run in busy]
        said = follow(PAGE, LOOK, directory=tmp_path, environment=environment | {"RUN": late["id"]})
        waiting = [client.run(run["id"])["status"] for run in [*behind, late]]
        valkey.start()
        ended = [client.run(run["id"], wait_s=60) for run in [*busy, *behind, late]]
        after = follow(PAGE, LOOK, directory=tmp_path, environment=environment | {"RUN": late["id"]})

    assert done == ["completed"] * 2
    assert '503 {"status":"no broker","detail":"No server listens at its address.' in said
    assert "The broker cannot be reached." in said
    assert waiting == ["queued"] * 5
    assert [(run["status"], run["attempt"]) for run in ended] == [("completed", 1)] * 7
    assert '{"status":"ready' in after
    assert "completed: It has ended" in after
    assert "dispatch failed; the sweep will repeat it" in running.log("api") + running.log("worker-1")
    valkey.close()
