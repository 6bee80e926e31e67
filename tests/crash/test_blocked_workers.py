"""A tool lets no other Python code run: its worker keeps its runs, unless it is stopped, dead, or never free again."""

import os
import signal
from collections import Counter

import psutil
import pytest

from api_stub.client import Client
from tests.crash.conftest import LEASE_S
from tests.support import look
from tests.support.supervised import started_again
from tests.support.system import System, wait_until

pytestmark = pytest.mark.processes
NEIGHBOURS = 4
STEPS = 8


def effects(running: System) -> list[str]:
    """Return the idempotency keys of the tool calls that blocked a worker, one each time."""
    file = running.directory / "effects"
    return file.read_text().splitlines() if file.exists() else []


def block(client: Client, seconds: int, *, timeout_s: float | None = None) -> str:
    """Enqueue a run whose tool blocks its worker, and return its id."""
    text = f'block [call=block {{"seconds": {seconds}}}]'
    return client.enqueue("blocks", text, session_id="b", user_id="u", timeout_s=timeout_s)["id"]


def owner_of(running: System, run_id: str) -> int:
    """Return the pid of the worker that holds the run's lease, once its tool blocks it."""
    wait_until(lambda: effects(running), description="the tool blocks its worker")
    return int(look.row(running.db, run_id).lease_owner.split(":")[1])


def guard_of(pid: int) -> psutil.Process:
    """Return the lease guard of a worker."""
    (guard,) = (child for child in psutil.Process(pid).children() if "lease-guard" in child.cmdline())
    return guard


@pytest.mark.extended
def test_a_tool_that_blocks_its_worker_longer_than_the_lease_is_executed_once(running: System) -> None:
    """And so are the model calls of the runs beside it: no other worker takes them over."""
    running.start_workers(2)
    client = running.start_api()
    texts = [f"{n} [steps={STEPS}] [delay=0.2]" for n in range(NEIGHBOURS)]
    beside = [client.enqueue("with-tool", text, session_id=f"s{n}", user_id="u") for n, text in enumerate(texts)]
    wait_until(lambda: all(look.log(running.db, run["id"]) for run in beside), description="the others have begun")

    blocked = block(client, int(4 * LEASE_S))
    ended = [client.run(run_id, wait_s=60) for run_id in (blocked, *(run["id"] for run in beside))]

    assert [(run["status"], run["attempt"]) for run in ended] == [("completed", 1)] * (NEIGHBOURS + 1)
    assert len(effects(running)) == 1
    assert all(set(look.calls_by_turn(running, text).values()) == {1} for text in texts)
    logs = running.log("worker-1") + running.log("worker-2")
    assert logs.count("its lease guard renews its leases") == 1


@pytest.mark.extended
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_blocked_worker_that_is_stopped_or_dies_loses_its_runs(running: System, how: str) -> None:
    """As one that is not blocked. The guard of a dead worker ends with it."""
    running.start_workers(2)
    client = running.start_api()
    run_id = block(client, 600)
    pid = owner_of(running, run_id)
    guard = guard_of(pid)
    wait_until(
        lambda: "its lease guard renews" in running.log("worker-1") + running.log("worker-2"), description="it acts"
    )

    os.kill(pid, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    wait_until(
        lambda: look.row(running.db, run_id).attempt == 2,
        description="the other worker takes the run over within the lease plus 5 s",
        timeout_s=LEASE_S + 5,
    )

    if how == "killed":
        guard.wait(timeout=10)
    else:
        assert guard.is_running()


@pytest.mark.extended
def test_a_tool_that_never_returns_ends_with_its_run(running: System) -> None:
    """Once every run in the worker is past its deadline, the worker is ended. The next claim fails the run."""
    with started_again(running, TEAM_SESSIONS_LEASE_SECONDS="2") as deaths:
        running.start_worker(TEAM_SESSIONS_LEASE_SECONDS="2")
        client = running.start_api()
        run_id = block(client, 600, timeout_s=4)
        behind = client.enqueue("blocks", "hello", session_id="b", user_id="u")["id"]

        ended, after = client.run(run_id, wait_s=60), client.run(behind, wait_s=60)

    assert (ended["status"], ended["error"]["code"]) == ("failed", "limit_reached")
    assert after["status"] == "completed"
    assert deaths == [-9]
    assert len(effects(running)) == 1


@pytest.mark.extended
def test_a_tool_that_never_returns_stops_its_neighbours_for_ten_leases_at_most(running: System) -> None:
    """Its worker is ended then. After the third time the run has a process of its own, where no other run waits."""
    with started_again(running, TEAM_SESSIONS_LEASE_SECONDS="1") as deaths:
        running.start_worker(TEAM_SESSIONS_LEASE_SECONDS="1")
        client = running.start_api()
        beside = [client.enqueue("plain", f"{n} [delay=3]", session_id=f"s{n}", user_id="u") for n in range(NEIGHBOURS)]
        run_id = block(client, 600)

        done = [client.run(run["id"], wait_s=120) for run in beside]
        wait_until(lambda: len(effects(running)) == 4, description="the run has a process of its own")
        isolated = owner_of(running, run_id)  # now: it is ended after ten leases, too
        other = client.run(client.enqueue("plain", "x", session_id="x", user_id="u")["id"], wait_s=60)
        workers = [worker.pid for worker in running.workers]
        os.kill(isolated, signal.SIGKILL)
        ended = client.run(run_id, wait_s=60)

    assert Counter(run["status"] for run in (*done, other)) == {"completed": NEIGHBOURS + 1}
    assert deaths == [-9, -9, -9], "the first time it had written a reply, so that was not counted"
    assert isolated not in workers
    assert (ended["status"], ended["error"]["code"]) == ("failed", "workers_lost")
