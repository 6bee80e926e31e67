"""What the system lets a worker have, and what it does with less."""

import resource
import subprocess
import sys
import threading

import pytest

from tests.support.system import wait_until
from worker.process import watchdog
from worker.process.watchdog import Watchdog
from worker.queue.pool import TaskPool

FITS = """
import resource, sys
from worker.process import limits
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])))
print(limits.fitting(100), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
TOO_LARGE = 1 << 46  # no system has so much memory for the stack of a thread


def fitting(limit: str, soft: int, hard: int) -> "subprocess.CompletedProcess[str]":
    """Ask a process with a limit how many of 100 tasks fit, and what its soft limit of file handles is then."""
    command = [sys.executable, "-c", FITS, limit, str(soft), str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_worker_raises_its_soft_limit_of_file_handles_as_far_as_it_needs() -> None:
    """And no further: a program of a tool may use `select`."""
    done = fitting("RLIMIT_NOFILE", 64, 4096)

    assert done.stdout.split() == ["100", "300"]
    assert done.stderr == ""


def test_a_worker_with_few_file_handles_executes_fewer_tasks_or_refuses() -> None:
    """It says what it lacks."""
    few, none = fitting("RLIMIT_NOFILE", 128, 128), fitting("RLIMIT_NOFILE", 64, 64)

    assert few.stdout.split() == ["14", "128"]
    assert "gives this worker too little" in few.stderr
    assert none.returncode == 1
    assert "needs 102 file handles, and the system gives it 64" in none.stderr


def test_a_worker_with_few_threads_executes_fewer_tasks() -> None:
    """The stacks of threads need memory: with a limit of it only some can be started."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]

    done = fitting("RLIMIT_AS", 1 << 30, most)

    assert 1 <= int(done.stdout.split()[0]) < 100
    assert "gives this worker too little" in done.stderr


def test_a_pool_without_new_threads_executes_every_task_on_those_that_it_has() -> None:
    """None is lost, and none fails."""
    pool = TaskPool(limit=5)
    pool.start()
    done: list[int] = []

    threading.stack_size(TOO_LARGE)
    try:
        for number in range(10):
            pool.on_apply(done.append, (number,), {}, callback=lambda _: None)
    finally:
        threading.stack_size(0)
    wait_until(lambda: len(done) == 10, description="each task was executed")
    pool.stop()

    assert sorted(done) == list(range(10))


def test_a_worker_without_file_handles_for_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment without is no reason."""
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    monkeypatch.setattr(watchdog, "EXHAUSTED_S", 0.2)
    left, given_up = [True], threading.Event()
    guard = Watchdog(
        alive_at=watchdog.clock.monotonic,
        broker_answers=lambda: True,
        handles_left=lambda: left[0],
        give_up=given_up.set,
    )
    guard.start()

    early = given_up.wait(0.4)
    left[0] = False

    assert not early
    assert given_up.wait(60)
    guard.close()
