"""What a stop leaves behind that somebody asked for: nothing, and a log in which nobody is called to look."""

import re
import signal
import threading
from contextlib import suppress

import pytest
from sqlalchemy import select, text

from api_stub.client import Client, ClientError
from tests.support import look
from tests.support.system import System, wait_until
from worker.queue.app import BACKGROUND
from worker.store import Database, teams
from worker.store.tables import runs, summary_jobs

pytestmark = pytest.mark.processes
ALARMS = re.compile(r"WARNING|ERROR|CRITICAL|Traceback|Warning|Exception|never awaited|leaked|killing it")
SHOWN = {"PYTHONWARNINGS": "default::ResourceWarning"}  # Python hides these

BUSY = pytest.mark.parametrize(
    "busy", [pytest.param(False, id="idle", marks=pytest.mark.extended), pytest.param(True, id="busy")]
)


def keep_busy(running: System, client: Client) -> None:
    """Have runs in flight in both kinds of workers, a summary in the making, and somebody who watches and waits."""
    condensed = client.enqueue("condensed-never", "hello", session_id="c", user_id="u")
    client.run(condensed["id"], wait_s=60)
    ids = [
        client.enqueue("with-tool", f"{n} [steps=9] [delay=0.5]", session_id=f"s{n}", user_id="u")["id"] for n in "123"
    ]
    ids.append(client.enqueue("plain", "[delay=60] slow", session_id="s4", user_id="u")["id"])
    ids.append(
        client.enqueue("plain", "[words=600] [pace=0.1] go", session_id="s5", user_id="u", priority="background")["id"]
    )

    def watch(run_id: str) -> None:
        with suppress(ClientError, RuntimeError):  # there is no API any more; the test is over
            list(client.stream(run_id))

    def wait(run_id: str) -> None:
        with suppress(ClientError, RuntimeError):  # there is no API any more; the test is over
            client.run(run_id, wait_s=60)

    for act in (watch, wait):
        for run_id in ids:
            threading.Thread(target=act, args=(run_id,), daemon=True).start()
    wait_until(lambda: look.count(running.db, "running") == len(ids), description="the runs are running")
    wait_until(lambda: held(running.db, summary_jobs), description="a summary is in the making")
    wait_until(lambda: look.calls_by_turn(running, "[delay=60] slow"), description="a slow model is asked")


def held(db: Database, table: object) -> int:
    """Return how many rows somebody has leased."""
    with db.read() as tx:
        return len(tx.execute(select(table).where(table.c.lease_owner.is_not(None))).all())  # type: ignore[attr-defined]


def said(running: System, *names: str) -> list[str]:
    """Return the lines of these logs."""
    return [line for name in names for line in running.log(name).splitlines()]


def check_nothing_is_left(running: System) -> None:
    """Assert that no lease is held, nobody counts as live, and nobody is connected to the database."""
    assert held(running.db, runs) == held(running.db, summary_jobs) == 0
    assert look.count(running.db, "running") == 0
    with running.db.read() as tx:
        assert teams.live(tx) == []
    if running.database_url.startswith("postgres"):
        running.db.close()
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with running.db.read() as tx:
            assert tx.execute(text(others)).all() == []


def check_quiet(lines: list[str], before: list[str]) -> None:
    """Assert that nothing was said since *before* that somebody would have to look at."""
    new = lines.copy()
    for line in before:
        new.remove(line)
    assert new
    assert [line for line in new if ALARMS.search(line)] == []


@pytest.mark.extended
@BUSY
def test_processes_that_are_stopped_leave_nothing_behind(running: System, busy: bool) -> None:
    """SIGTERM to the API, then to both kinds of workers: each ends with 0, says nothing alarming, gives all back."""
    running.environment |= SHOWN
    workers = [running.start_worker(), running.start_worker(queues=",".join(BACKGROUND))]
    client = running.start_api()
    if busy:
        keep_busy(running, client)
    before = said(running, "api", "worker-1", "worker-2")

    running.api.send_signal(signal.SIGTERM)
    codes = [running.api.wait(timeout=120)]
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    codes += [worker.wait(timeout=120) for worker in workers]

    assert codes == [0, 0, 0]
    check_quiet(said(running, "api", "worker-1", "worker-2"), before)
    check_nothing_is_left(running)


@BUSY
def test_up_that_is_stopped_leaves_nothing_behind(running: System, busy: bool) -> None:
    """The same of `team-sessions up` with a broker of its own: API, Flower, workers and broker end in their order."""
    running.environment |= SHOWN
    del running.environment["TEAM_SESSIONS_REDIS_URL"]
    up, client = running.start_up()
    if busy:
        keep_busy(running, client)
    before = said(running, "up")

    up.send_signal(signal.SIGTERM)

    assert up.wait(timeout=120) == 0
    check_quiet(said(running, "up"), before)
    check_nothing_is_left(running)
