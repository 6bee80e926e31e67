"""Rebuilds of summaries whose workers are killed: others go on with what they had, and pay what was in flight alone."""

import os
import re
import signal
from collections import Counter
from typing import Any

import pytest

from tests.support import look
from tests.support.condensing import jobs, session_row, versions
from tests.support.system import System, wait_until
from worker import settings as configuration
from worker.domain import RunOrder
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.runs.enqueue import enqueue
from worker.settings import Settings
from worker.store import sessions
from worker.summaries import due

pytestmark = [pytest.mark.processes, pytest.mark.extended]
RUNS = 8
PLACE = {"session_id": "s", "team": "condensed-soon"}
SETTINGS = {
    "TEAM_SESSIONS_SUMMARY_VERSIONS": "1000",
    "TEAM_SESSIONS_SUMMARY_PIECE_TOKENS": "100",  # a run: its input and its answer
    "TEAM_SESSIONS_LEASE_SECONDS": "8",  # only the dead shall lose one, however busy the machine is
}


@pytest.fixture
def dispatcher(running: System, monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    """A dispatcher like those of the product."""
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", running.environment["TEAM_SESSIONS_REDIS_URL"])
    settings = configuration.load()
    return Dispatcher(make_app(settings))


def summarised(running: System, dispatcher: Dispatcher) -> int:
    """Have a session of a few runs whose summary covers all of it; return our key."""
    for n in range(RUNS):
        accepted = enqueue(
            running.db,
            RunOrder(PLACE["team"], f"I am S{n}. {'x' * 300}", session_id=PLACE["session_id"], user_id="u"),
            settings=Settings(),
        )
        dispatcher.send(accepted.dispatches)
    with running.db.read() as tx:
        pk = sessions.pk_of_run(tx, accepted.run.id)
    assert pk is not None
    wait_until(lambda: look.count(running.db, "completed") == RUNS, description="the runs are done")
    wait_until(lambda: not jobs(running.db), description="the summary covers them")
    return pk


def asked(running: System, *, behind: int) -> list[dict[str, Any]]:
    """Return what models of summaries were asked and what they answered, behind the first so many lines."""
    return [line for line in running.journal()[behind:] if line["summary"]]


def pieces(running: System) -> int:
    """Return how many pieces the rebuild has."""
    return sum(job.draft["pieces"] for job in jobs(running.db) if job.draft)


def test_killed_workers_cost_a_rebuild_the_pieces_in_flight_alone(running: System, dispatcher: Dispatcher) -> None:
    """Two workers die at pieces of one rebuild. The third makes one version of all, which no reader has seen before.

    The model server was asked once for each piece, and once more for each that was in flight.
    """
    running.start_worker(**SETTINGS)
    maker = running.start_worker(queues="summaries", **SETTINGS)
    pk = summarised(running, dispatcher)
    before, kept, begun = session_row(running.db, pk), versions(running.db, pk), len(running.journal())

    with running.db.write() as tx:
        ready = due.request(tx, pk, **PLACE, rebuild=True)
    dispatcher.send(ready)
    for behind in (2, 4):
        wait_until(lambda at=behind: pieces(running) >= at, description=f"{behind} pieces are made")
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
        assert (session_row(running.db, pk), versions(running.db, pk)) == (before, kept)
        maker = running.start_worker(queues="summaries", **SETTINGS)
    wait_until(lambda: not jobs(running.db), description="the rebuild is made")

    *old, new = versions(running.db, pk)
    lines = asked(running, behind=begun)
    told = Counter(line["user"] for line in lines if line["event"] == "asked")
    assert old == kept
    assert (new.version, new.covers_through_seq) == (before.summary_version + 1, before.covers_through_seq)
    assert re.findall(r"I am (S\d+)", new.text) == [f"S{n}" for n in range(RUNS)]
    assert session_row(running.db, pk).unsummarised == before.unsummarised == 0
    assert new.model_calls == len(told) >= 5, "each piece ends elsewhere, and its reply was paid once"
    assert sum(told.values()) - len(told) <= 2, "asked again: what the killed workers were at, and nothing else"
