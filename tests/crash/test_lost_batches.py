"""Batches whose workers are all killed in the middle, twice: every item ends once, and what was paid is kept."""

import re
from collections import Counter

import pytest
from sqlalchemy import func, select

from tests.support import look
from tests.support.system import System, wait_until
from tests.support.valkey import ValkeyServer
from worker.batches import accept, lifecycle
from worker.batches.accept import ExplicitItems
from worker.domain import SERVICE, Batch, BatchOrder, BatchRun, BatchStatus, Kind, RunOrder
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store.tables import batch_items, runs, summaries

pytestmark = [pytest.mark.processes, pytest.mark.extended]
ITEMS, SLOTS, KILLS = 40, 8, 2
SETTINGS = {
    "TEAM_SESSIONS_SUMMARY_SLOTS": str(SLOTS),
    "TEAM_SESSIONS_BATCH_SLOTS": str(SLOTS),
    "TEAM_SESSIONS_LEASE_SECONDS": "5",
}


def start(running: System) -> None:
    """Start a worker for runs and one for what nobody waits for."""
    running.start_worker(**SETTINGS)
    running.start_worker(queues="batch,summaries", **SETTINGS)


def kill_everything(running: System, valkey: ValkeyServer) -> None:
    """Kill -9 every worker and the broker; the broker comes back empty."""
    for worker in running.workers:
        worker.kill()
        worker.wait()
    valkey.kill()
    valkey.start()


def test_every_item_ends_once_although_everything_is_killed_twice(running: System, valkey: ValkeyServer) -> None:
    """One run or one version an item; the model was asked in vain for what was in flight, and nothing else."""
    start(running)
    for n in range(ITEMS):
        enqueue(
            running.db,
            RunOrder("condensed-slowly", f"I am S{n}r0.", session_id=f"s{n}", user_id="u"),
            settings=Settings(),
        )
    wait_until(lambda: look.count(running.db, "completed") == ITEMS, description="there are sessions")
    items = ExplicitItems(requests=[BatchRun("plain", "again [delay=0.4]", custom_id=f"r{n}") for n in range(ITEMS)])
    kinds = ((Kind.REFRESH_SUMMARIES, None), (Kind.ENQUEUE_RUNS, items))
    made = [
        accept.create(
            running.db, BatchOrder(kind=kind, window=20), principal=SERVICE, settings=Settings(), items=items
        ).id
        for kind, items in kinds
    ]

    def ended() -> int:
        return min(batch.ended for batch in now())

    def now() -> list[Batch]:
        return [lifecycle.get(running.db, id, principal=SERVICE) for id in made]

    for kill in range(1, KILLS + 1):
        wait_until(lambda kill=kill: ended() >= kill * ITEMS // 4, description="some have ended")
        assert ended() < ITEMS
        kill_everything(running, valkey)
        start(running)
    wait_until(
        lambda: all(batch.status is BatchStatus.COMPLETED for batch in now()),
        description="all have ended",
    )

    for batch in now():
        assert (batch.planned, batch.fed, batch.ended) == (ITEMS, ITEMS, ITEMS)
        assert batch.outcomes == {"completed": ITEMS}
        assert batch.spent.usage.model_calls == ITEMS
    with running.db.read() as tx:
        versions = tx.execute(select(func.count()).select_from(summaries).group_by(summaries.c.session_pk)).scalars()
        assert list(versions) == [1] * ITEMS
        ours = select(batch_items.c.run_id).where(batch_items.c.batch_id == made[1])
        assert len(set(tx.execute(ours).scalars())) == ITEMS
        assert tx.execute(select(func.count()).select_from(runs)).scalar_one() == 2 * ITEMS
    check_journal(running)


def check_journal(running: System) -> None:
    """Assert that the model server was asked what the rows say, and in vain only for what was in flight at a kill."""
    asked = [line for line in running.journal() if line["event"] == "asked"]
    summarised = Counter(re.findall(r"S\d+r0", line["user"])[0] for line in asked if line["summary"])
    again = sum("again" in line["user"] for line in asked if not line["summary"])
    assert set(summarised) == {f"S{n}r0" for n in range(ITEMS)}
    for calls in (summarised.total(), again):
        assert ITEMS <= calls <= ITEMS + KILLS * SLOTS
