"""Replays whose worker is killed: they go on elsewhere, and no tool is called."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import LEASE_S
from tests.support import look
from tests.support.replaying import comparison
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker.runs.replay import replay_in
from worker.settings import Settings

pytestmark = [pytest.mark.processes, pytest.mark.extended]
STEPS = 3


@pytest.fixture
def running(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[System]:
    """A model server that writes down what it is asked; the test starts workers and API."""
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": str(LEASE_S), "TEAM_SESSIONS_HANDOVER_SECONDS": "1"}
    place = {"database_url": database_url, "redis_url": valkey.url}
    system = System(tmp_path, **place, settings=settings, model_options=["--contexts"])
    yield system
    system.close()


def test_a_replay_whose_worker_is_killed_goes_on_without_calling_a_tool(running: System) -> None:
    """kill -9 in its middle: the other worker looks up what is left; the model is asked what it was asked before."""
    running.start_workers(2, queues="resumed,runs,batch")
    client = running.start_api()
    client.run(client.enqueue("notes", "hello, I am Ada", session_id="s", user_id="u")["id"], wait_s=60)
    text = f"note it down [steps={STEPS}] [calls=2] [delay=0.5]"
    source = client.run(client.enqueue("notes", text, session_id="s", user_id="u")["id"], wait_s=60)
    client.run(client.enqueue("notes", "and later?", session_id="s", user_id="u")["id"], wait_s=60)
    effects = (running.directory / "effects").read_text()
    asked_before = contexts(running, text)

    with running.db.write() as tx:
        repeated = replay_in(tx, source["id"], execute_tools=False, settings=Settings()).run.id
    wait_until(
        lambda: len(look.log(running.db, repeated)) >= 5, description="a turn and more are written", timeout_s=60
    )
    pid = int(look.row(running.db, repeated).lease_owner.split(":")[1])
    os.kill(pid, signal.SIGKILL)
    done = client.run(repeated, wait_s=60)

    assert (done["status"], done["output"], done["attempt"]) == ("completed", source["output"], 2)
    assert comparison(running.db, repeated).status == "same"
    assert len(effects.splitlines()) == 2 * STEPS
    assert (running.directory / "effects").read_text() == effects
    told = [sorted(m.content for m in look.log(running.db, r) if m.author == "note") for r in (source["id"], repeated)]
    assert told[0] == told[1]
    asked = contexts(running, text)
    assert set(asked) == set(range(STEPS + 1))
    assert all(spelled == asked_before[turn] for turn, spelled in asked.items())


def contexts(running: System, text: str) -> dict[int, set[str]]:
    """Return what the model was asked for each turn of the runs of an input; results in one order."""
    found: dict[int, set[str]] = {}
    for line in running.journal():
        if line["user"] == text and line["event"] == "asked":
            said = sorted(str(message) for message in line["context"])
            found.setdefault(line["turn"], set()).add("\n".join(said))
    return found
