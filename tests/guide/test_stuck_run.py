"""The runbook of a run that does not move, followed on a session that is stuck behind its head."""

import json
from pathlib import Path

import pytest

from tests.support.pages import RUNBOOKS, commands, follow
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer

pytestmark = [pytest.mark.processes, pytest.mark.extended]
PAGE = "stuck-run.md"
ASK, WHICH, CANCEL, MANY = "Ask", "Which runs wait", "Cancel one", "Cancel many"
RETRY = "Try a failed or cancelled one again"


def test_every_command_of_the_page_is_followed_below() -> None:
    """A block that is added to the page is added to the test."""
    assert set(commands(RUNBOOKS / PAGE)) == {ASK, WHICH, CANCEL, MANY, RETRY}


def test_a_stuck_session_is_found_and_moved_on(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> None:
    """Its second run names the first, which is cancelled; the second completes, and the first is tried again."""
    with system(tmp_path, database_url=database_url, redis_url=valkey.url) as running:
        running.start_worker()
        client = running.start_api()
        environment = running.environment | {"TEAM_SESSIONS_URL": running.url, "TEAM_SESSIONS_KEY": running.key}

        def do(heading: str, run: str = "") -> str:
            return follow(PAGE, heading, directory=tmp_path, environment=environment | {"RUN": run, "TEAM": "plain"})

        first = client.enqueue("plain", "hello [delay=60]", user_id="u", session_id="s")["id"]
        second = client.enqueue("plain", "hello", user_id="u", session_id="s")["id"]
        wait_until(lambda: client.run(first)["status"] == "running", description="the first runs")

        sentence, _, facts = do(ASK, second).partition("\n")
        waiting = do(WHICH)
        cancelled = do(CANCEL, first)
        ended = client.run(second, wait_s=30)
        again = do(RETRY, first).split()[0]
        retried = client.run(again)
        head = client.enqueue("plain", "hello [delay=60]", user_id="u", session_id="s")["id"]
        behind = [client.enqueue("plain", "hello", user_id="u", session_id="s")["id"] for _ in range(3)]
        many = do(MANY)
        ended_too = [client.run(run)["status"] for run in behind]
        client.cancel(head)

    assert sentence.startswith("queued: It is behind run")
    assert json.loads(facts)["behind_run_id"] == first
    lines = {line.split()[0]: line.split()[-1] for line in waiting.splitlines() if line.startswith("run_")}
    assert lines == {first: "running", second: "behind_run"}
    assert cancelled.startswith(f"{first} is ")
    assert "runs cancelled" in many
    assert ended_too == ["cancelled"] * 3
    assert ended["status"] == "completed"
    assert retried["retry_of"] == first
