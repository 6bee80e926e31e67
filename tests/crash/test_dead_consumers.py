"""A worker that could take no task ends, and somebody starts one that can; one whose broker is away rides that out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.support import broken_worker, look
from tests.support.broken_worker import FILE, SILENT, SILENT_S
from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.cli.worker import DEAD
from worker.store import teams

pytestmark = pytest.mark.processes
PROGRAM = [sys.executable, "-m", broken_worker.__name__]


def start_breakable(running: System, *, concurrency: int = 20) -> "subprocess.Popen[bytes]":
    """Start a worker whose consumer can be broken, and wait until it is ready."""
    command = [*PROGRAM, "worker", "--concurrency", str(concurrency)]
    worker = running.start("breakable", command, environment=running.environment)
    wait_until(lambda: "worker ready" in running.log("breakable"), description="it is ready")
    return worker


def tell_to_break(running: System, how: str) -> None:
    """Break the consumer of the worker that runs, and wait until it has."""
    told = running.directory / f"{FILE}.new"
    told.write_text(how)
    told.rename(running.directory / FILE)
    wait_until(lambda: not (running.directory / FILE).exists(), description="the consumer is broken")


def cut_connections(valkey: ValkeyServer) -> None:
    """Close every connection of the server but this one."""
    with Redis.from_url(valkey.url) as redis:
        redis.client_kill_filter(_type="normal", skipme=True)


def counted(running: System) -> int:
    """Return how many workers count as live."""
    with running.db.read() as tx:
        return max((served.workers for served in teams.live(tx)), default=0)


@pytest.mark.parametrize(
    "how",
    [
        "block_the_loop",
        *(pytest.param(how, marks=pytest.mark.extended) for how in sorted({*SILENT} - {"block_the_loop"})),
    ],
)
def test_a_worker_with_a_dead_consumer_ends_and_its_runs_go_on(running: System, valkey: ValkeyServer, how: str) -> None:
    """It hands its run over, signs off, says so, and ends with a code; the next worker takes its run and the others."""
    worker = start_breakable(running)
    client = running.start_api()
    text = "go [steps=8] [delay=2]"
    run = client.enqueue("with-tool", text, session_id="s", user_id="u")
    wait_until(lambda: len(look.log(running.db, run["id"])) >= 3, description="a turn is written")

    tell_to_break(running, how)
    if how == "reconnect_for_ever":
        cut_connections(valkey)
    code = worker.wait(timeout=120)
    left, row = counted(running), look.row(running.db, run["id"])
    running.start_worker()
    done = client.run(run["id"], wait_s=60)

    assert code == DEAD
    assert "consumes nothing although its broker answers" in running.log("breakable")
    assert left == 0, "who is gone serves nothing"
    assert (row.status, row.lease_owner) == ("queued", None), "it was handed over, and left to no lease"
    assert (done["status"], done["attempt"]) == ("completed", 2)
    look.check_whole(running.db, run["id"], steps=8)


@pytest.mark.extended
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_broker_that_is_away_for_long_ends_no_worker(tmp_path: Path, new_sqlite: Callable[[], str], how: str) -> None:
    """It is away for longer than a dead consumer is tolerated: the runs in flight go on, and so does the worker."""
    with (
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=new_sqlite(), redis_url=valkey.url) as running,
    ):
        worker = start_breakable(running)
        client = running.start_api()
        run = client.enqueue("plain", f"[delay={SILENT_S:g}] go", session_id="s", user_id="u")
        wait_until(lambda: look.count(running.db, "running") == 1, description="the run is running")

        if how == "killed":
            valkey.kill()
        else:
            os.kill(valkey.pid, signal.SIGSTOP)
        time.sleep(2 * SILENT_S)
        status = look.row(running.db, run["id"]).status
        if how == "killed":
            valkey.start()
        else:
            os.kill(valkey.pid, signal.SIGCONT)
        after = client.run(client.enqueue("plain", "and now?", session_id="t", user_id="u")["id"], wait_s=60)

        assert (status, after["status"]) == ("completed", "completed")
        assert worker.poll() is None


@pytest.mark.extended
def test_a_worker_with_every_slot_in_use_and_a_frozen_one_are_not_dead(
    tmp_path: Path, new_sqlite: Callable[[], str], valkey: ValkeyServer
) -> None:
    """The one asks for no message for as long as its run takes; for the other all clocks have jumped."""
    with system(tmp_path, database_url=new_sqlite(), redis_url=valkey.url) as running:
        worker = start_breakable(running, concurrency=1)
        client = running.start_api()
        runs = [client.enqueue("plain", f"[delay={2 * SILENT_S:g}] go", session_id=s, user_id="u") for s in "ab"]
        first = client.run(runs[0]["id"], wait_s=60)

        running.freeze(worker.pid)
        time.sleep(2 * SILENT_S)
        os.kill(worker.pid, signal.SIGCONT)
        second = client.run(runs[1]["id"], wait_s=60)

        assert {first["status"], second["status"]} == {"completed"}
        assert worker.poll() is None


@pytest.mark.extended
def test_up_starts_a_worker_again_whose_consumer_died(running: System) -> None:
    """Nobody's hand is needed: the worker ends, `up` starts it again, and a new run is executed."""
    up, client = running.start_up("--workers", "1", program=PROGRAM)

    tell_to_break(running, "ask_for_nothing")
    wait_until(lambda: f"ended with code {DEAD}" in running.log("up"), description="it is started again")
    run = client.run(client.enqueue("plain", "still there?", session_id="s", user_id="u")["id"], wait_s=60)
    up.send_signal(signal.SIGTERM)

    assert run["status"] == "completed"
    assert up.wait(timeout=120) == 0
