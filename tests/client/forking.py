"""A program that forks while it uses a client. It prints what its processes saw, as JSON lines.

python -m tests.client.forking SCENE URL
"""

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable

import psutil

from api_stub.client import AsyncClient, Client, Retries, connections

REQUESTS = 15
RETRIES = Retries(count=0)
connections.IDLE_S = 600.0  # a slow machine must not let them expire
client: Client


def report(**facts: object) -> None:
    """Print one line; a single write, since processes share the pipe."""
    os.write(1, (json.dumps(facts) + "\n").encode())


def fork(act: Callable[[], None]) -> int:
    """Act in a child process, and return its process id."""
    if pid := os.fork():
        return pid
    try:
        act()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - a test reads it
        report(error=repr(error))
        os._exit(1)


def await_all(*children: int) -> None:
    """Wait for child processes."""
    for child in children:
        os.waitpid(child, 0)


def connected() -> int:
    """Return how many TCP connections this process has open."""
    return len(psutil.Process().net_connections("tcp"))


def enqueue(who: str) -> None:
    """Enqueue some runs, and report answers to other requests."""
    inherited, wrong = connected(), 0
    for n in range(REQUESTS):
        wrong += client.enqueue("t", f"{who} {n}")["input"] != f"{who} {n}"
    report(who=who, wrong=wrong, inherited=inherited)


def plain(url: str) -> None:
    """Two children and the parent enqueue at the same time."""
    global client
    client = Client(url, "k", retries=RETRIES)
    client.enqueue("t", "before")
    children = [fork(lambda who=who: enqueue(who)) for who in ("ada", "bob")]  # type: ignore[misc]
    for n in range(REQUESTS):
        assert client.enqueue("t", f"parent {n}")["input"] == f"parent {n}"
    await_all(*children)
    client.close()


def on_a_loop(url: str) -> None:
    """The same with `AsyncClient`, and with the parent's event loop running."""
    shared = AsyncClient(url, "k", retries=RETRIES)

    async def enqueue_all(who: str) -> None:
        inherited, wrong = connected(), 0
        for n in range(REQUESTS):
            wrong += (await shared.enqueue("t", f"{who} {n}"))["input"] != f"{who} {n}"
        report(who=who, wrong=wrong, inherited=inherited)

    async def parent() -> None:
        await shared.enqueue("t", "before")
        children = [fork(lambda who=who: asyncio.run(enqueue_all(who))) for who in ("ada", "bob")]  # type: ignore[misc]
        for n in range(REQUESTS):
            assert (await shared.enqueue("t", f"parent {n}"))["input"] == f"parent {n}"
        await_all(*children)
        await shared.aclose()

    asyncio.run(parent())


def pool(url: str) -> None:
    """The processes of a `multiprocessing.Pool`."""
    global client
    client = Client(url, "k", retries=RETRIES)
    client.enqueue("t", "before")
    with multiprocessing.get_context("fork").Pool(3) as workers:
        workers.map(enqueue, ["ada", "bob", "cyd"], chunksize=1)
    client.close()


def watching(url: str) -> None:
    """One thread reads a stream, one holds the lock of the pool, and the child continues another stream."""
    global client
    client = Client(url, "k", retries=Retries(count=2, pause_s=0.01))
    begun, events = threading.Event(), []

    def watch() -> None:
        for event in client.stream("parent"):
            events.append(event.id)
            begun.set()

    thread = threading.Thread(target=watch)
    thread.start()
    begun.wait()
    mine = client.stream("child")
    first = next(mine).id
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with client._connections.http._transport._pool._optional_thread_lock:  # type: ignore[attr-defined]
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def child() -> None:
        enqueue("ada")
        report(child=[first, *(event.id for event in mine)])

    pid = fork(child)
    release.set()
    holder.join()
    await_all(pid)
    client.enqueue("t", "go on")  # the server continues the parent's stream
    thread.join()
    report(parent=events)
    client.close()


if __name__ == "__main__":
    {"plain": plain, "on_a_loop": on_a_loop, "pool": pool, "watching": watching}[sys.argv[1]](sys.argv[2])
