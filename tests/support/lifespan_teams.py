"""Teams with a lifespan, which writes into the file that TEST_LIFESPAN names; it fails if that is 'no'."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from worker import Team


class _Client:
    """Something that belongs to the event loop on which it was made."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def look(self) -> str:
        """Say whether this is the loop."""
        async with self._lock:
            return "the same loop" if asyncio.get_running_loop() is self._loop else "another loop"


client: _Client


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    """Open the client, and close it."""
    global client
    if os.environ["TEST_LIFESPAN"] == "no":
        raise ConnectionError("no pool here")
    journal = Path(os.environ["TEST_LIFESPAN"])
    client = _Client()
    with journal.open("a") as file:
        file.write("entered\n")
    yield
    with journal.open("a") as file:
        file.write("left\n")


async def look() -> str:
    """Look."""
    return await client.look()


team = Team(id="looks", tools=[look])
