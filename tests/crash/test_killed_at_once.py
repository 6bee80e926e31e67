"""A killed worker's work goes on at once, long before its leases run out. No living worker is taken for dead."""

import os
import signal
import subprocess
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from api_stub.client import Client
from tests.support import look
from tests.support.condensing import jobs
from tests.support.postgres import PostgresServer
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.errors import DatabaseUnavailable

pytestmark = pytest.mark.processes
LEASE = {"TEAM_SESSIONS_LEASE_SECONDS": "300"}  # nothing below can wait for its end
STEPS = 10
SLOW = f"[steps={STEPS}] [delay=1]"


def start(running: System, **settings: str) -> Client:
    """Start two workers and the API."""
    running.start_workers(2, **LEASE, **settings)
    return running.start_api()


def begin(running: System, client: Client, session: str = "s") -> str:
    """Enqueue a run of some seconds, and wait until a turn of it is written."""
    run_id: str = client.enqueue("with-tool", f"{session} {SLOW}", session_id=session, user_id="u")["id"]
    wait_until(lambda: len(look.log(running.db, run_id)) >= 3, description="a turn is written")
    return run_id


def owner(running: System, run_id: str) -> subprocess.Popen[bytes]:
    """Return the worker that holds the run's lease."""
    pid = int(look.row(running.db, run_id).lease_owner.split(":")[1])
    return next(worker for worker in running.workers if worker.pid == pid)


def check_undisturbed(running: System, client: Client, *run_ids: str) -> None:
    """Assert that the runs complete in their first attempt."""
    for run_id in run_ids:
        assert client.run(run_id, wait_s=60)["status"] == "completed"
        row = look.row(running.db, run_id)
        assert (row.attempt, row.losses) == (1, 0)
        look.check_whole(running.db, run_id, steps=STEPS)


def test_a_run_goes_on_before_its_lease_runs_out(running: System) -> None:
    """Killed with -9: the other worker has it while the lease would still last, and pays no written answer again."""
    client = start(running)
    run_id = begin(running, client)
    ends_at = look.row(running.db, run_id).lease_until

    os.kill(owner(running, run_id).pid, signal.SIGKILL)
    wait_until(lambda: look.row(running.db, run_id).attempt == 2, description="the other worker has it")

    assert datetime.now(UTC) < ends_at, "its lease of five minutes had not run out"
    assert client.run(run_id, wait_s=60)["status"] == "completed"
    look.check_whole(running.db, run_id, steps=STEPS)
    assert sum(look.calls_by_turn(running, f"s {SLOW}").values()) <= STEPS + 2


@pytest.mark.default_on("sqlite")
def test_a_new_worker_takes_over_from_one_that_died_alone(running: System) -> None:
    """No other worker looked when it died."""
    client = running.start_api()
    first = running.start_worker(**LEASE)
    run_id = begin(running, client)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    running.start_worker(**LEASE)
    wait_until(lambda: look.row(running.db, run_id).attempt == 2, description="the new worker has it")


@pytest.mark.extended
def test_a_refresh_goes_on_before_its_lease_runs_out(running: System) -> None:
    """The same for a summary."""
    client = start(running)
    first = running.start_worker(queues="summaries", **LEASE)
    client.run(client.enqueue("condensed-never", "hello", session_id="s", user_id="u")["id"], wait_s=60)
    wait_until(lambda: any(job.lease_owner for job in jobs(running.db)), description="it is being refreshed")

    os.kill(first.pid, signal.SIGKILL)

    wait_until(lambda: not any(job.lease_owner for job in jobs(running.db)), description="it is given back")


@pytest.mark.default_on("sqlite")
def test_a_stopped_worker_is_not_taken_for_dead(running: System) -> None:
    """SIGSTOP is no death: it holds its lock, and its leases. Meanwhile a killed one is noticed."""
    client = running.start_api()
    stopped = running.start_worker(**LEASE)
    kept = begin(running, client)
    running.freeze(stopped.pid)
    killed = running.start_worker(**LEASE)
    lost = begin(running, client, "lost")
    running.start_worker(**LEASE)

    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: look.row(running.db, lost).attempt == 2, description="the third worker has looked")
    os.kill(stopped.pid, signal.SIGCONT)

    check_undisturbed(running, client, kept)


def locks(running: System) -> list[int]:
    """Return the server's processes of the connections that hold liveness locks."""
    with suppress(DatabaseUnavailable), running.db.read() as tx:
        found = tx.execute(text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 32341"))
        return list(found.scalars())
    return []


@pytest.mark.extended
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_worker_that_lost_its_lock_takes_it_again(running: System) -> None:
    """Its connection was closed by the server: it notices before anybody ends its leases."""
    client = start(running)
    runs = [begin(running, client, f"s{n}") for n in range(4)]

    for _ in range(5):
        before = locks(running)
        with running.db.write() as tx:
            tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before[0]})
        wait_until(
            lambda before=before: len(now := locks(running)) == 2 and before[0] not in now,  # type: ignore[misc]
            description="both are held",
        )

    check_undisturbed(running, client, *runs)


@pytest.mark.extended
def test_a_restart_of_postgres_is_no_death(tmp_path: Path, valkey: ValkeyServer) -> None:
    """It releases all locks, and each worker needs a moment to connect again."""
    with (
        closing(PostgresServer(durable=True)) as server,
        system(tmp_path, database_url=server.new_database(), redis_url=valkey.url) as running,
    ):
        client = start(running)
        runs = [begin(running, client, f"s{n}") for n in range(8)]

        for _ in range(3):
            server.stop(mode="immediate")
            server.start()
            wait_until(lambda: len(locks(running)) == 2, description="both are held")

        check_undisturbed(running, client, *runs)


@pytest.mark.extended
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_removed_file_of_locks_is_no_death(running: System) -> None:
    """Locks of two files say nothing of each other: each worker comes to the new one, and only then looks."""
    client = start(running)
    run_id = begin(running, client)
    file = Path(f"{running.db.address.file}-workers")  # type: ignore[union-attr]

    file.unlink()
    wait_until(file.exists, description="there is a new one")

    check_undisturbed(running, client, run_id)
    lost = begin(running, client, "lost")
    os.kill(owner(running, lost).pid, signal.SIGKILL)
    wait_until(lambda: look.row(running.db, lost).attempt == 2, description="the other worker has looked again")
