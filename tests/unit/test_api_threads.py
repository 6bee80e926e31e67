"""The threads of an API process: few at once, and a call that waits holds up no other."""

import asyncio
import threading
import time

import pytest

from api_stub import threads
from api_stub.threads import AT_ONCE, Threads


def test_few_calls_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; each is executed once, with its arguments."""
    monkeypatch.setattr(threads, "LONG_S", 60.0)
    working, most, lock = 0, 0, threading.Lock()

    def work(n: int, *, add: int) -> int:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.005)
        with lock:
            working -= 1
        return n + add

    async def all_of_them() -> list[int]:
        pool = Threads()
        return await asyncio.gather(*(pool.run(work, n, add=1) for n in range(10 * AT_ONCE)))

    assert asyncio.run(all_of_them()) == list(range(1, 10 * AT_ONCE + 1))
    assert most == AT_ONCE


def test_calls_that_wait_hold_up_no_other() -> None:
    """Three times as many as work at once wait for something; another one is executed meanwhile."""
    free = threading.Event()

    async def one_beside_others() -> str:
        pool = Threads()
        waiting = [asyncio.create_task(pool.run(free.wait, 60)) for _ in range(3 * AT_ONCE)]
        await asyncio.sleep(0)
        result = await asyncio.wait_for(pool.run(lambda: "done"), 30)
        assert not any(task.done() for task in waiting)
        free.set()
        await asyncio.gather(*waiting)
        return result

    assert asyncio.run(one_beside_others()) == "done"


def test_a_call_that_fails_or_is_given_up_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that as many calls as before work at once."""
    monkeypatch.setattr(threads, "LONG_S", 60.0)

    def fail() -> None:
        raise LookupError

    async def fail_and_go_on() -> None:
        pool = Threads()
        for _ in range(2 * AT_ONCE):
            with pytest.raises(LookupError):
                await pool.run(fail)
            given_up = asyncio.create_task(pool.run(time.sleep, 0.01))
            await asyncio.sleep(0)
            given_up.cancel()
        await asyncio.wait_for(asyncio.gather(*(pool.run(time.sleep, 0) for _ in range(AT_ONCE))), 30)

    asyncio.run(fail_and_go_on())
