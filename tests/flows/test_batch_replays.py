"""A batch of replays: what a changed instruction changes, found in runs that took place, without doing them again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.replaying import every_row
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker.batches import accept, lifecycle
from worker.domain import SERVICE, BatchOrder, BatchStatus, Kind, RunOrder, Selection
from worker.runs.enqueue import enqueue
from worker.settings import Settings

pytestmark = pytest.mark.processes
SESSIONS, RUNS = 20, 10  # of each: every second one asks for what the instruction says


@pytest.fixture
def running(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[System]:
    """A model server and settings."""
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url)
    yield system
    system.close()


@pytest.mark.extended
def test_a_changed_instruction_is_tried_on_what_took_place(running: System) -> None:
    """No tool is executed, no history is written to, and what changed is told apart from what did not."""
    before = running.start_worker()
    made = {}
    for n in range(SESSIONS * RUNS):
        text = f"note {n} [steps=1]" if n % 2 else f"note {n} [steps=1] What is my name?"
        order = RunOrder("notes", text, session_id=f"s{n % SESSIONS}", user_id="u")
        made[enqueue(running.db, order, settings=Settings()).run.id] = n % 2
    client = running.start_api()
    for run_id in made:
        assert client.run(run_id, wait_s=60)["status"] == "completed"
    before.terminate()
    before.wait()
    effects = (running.directory / "effects").read_text()
    histories = [every_row(running.db, f"s{n}") for n in range(SESSIONS)]

    running.start_worker(queues="resumed,runs,batch", TEAM_SESSIONS_TEAMS="tests.support.teams_changed")
    order = BatchOrder(kind=Kind.REPLAY_RUNS, select=Selection(team="notes"), window=20)
    batch_id = accept.create(running.db, order, principal=SERVICE, settings=Settings()).id
    done = wait_until(
        lambda: (
            (batch := lifecycle.get(running.db, batch_id, principal=SERVICE)).status is BatchStatus.COMPLETED and batch
        ),
        description="every run was replayed",
    )

    assert done.outcomes == {"same": len(made) // 2, "changed": len(made) // 2}
    assert len(effects.splitlines()) == len(made)
    assert (running.directory / "effects").read_text() == effects
    assert [every_row(running.db, f"s{n}") for n in range(SESSIONS)] == histories
    items = lifecycle.items(running.db, batch_id, principal=SERVICE, limit=len(made), texts=True)
    assert {item.source_run_id: item.status == "same" for item in items} == {id: bool(odd) for id, odd in made.items()}
    for item in items:
        assert ("Zed" in (item.new_output or "")) == (item.status == "changed")
        assert (item.old_output == item.new_output) == (item.status == "same")
        assert "Zed" not in (item.old_output or "")
