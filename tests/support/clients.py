"""Both clients of the API, called in the same way."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from api_stub.client import AsyncClient, Client, Retries

QUICK = Retries(count=3, pause_s=0.001)
Connect = Callable[..., Any]


class Blocking:
    """An `AsyncClient` on a loop of its own; its methods wait, and its iterators are plain ones."""

    def __init__(self, *address: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*address, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made = getattr(self._client, name)(*args, **options)
            return self._items(made) if inspect.isasyncgen(made) else self._loop.run_until_complete(made)

        return call

    def _items(self, made: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._loop.run_until_complete(anext(made))
        except StopAsyncIteration:
            pass
        finally:
            self._loop.run_until_complete(made.aclose())

    def close(self) -> None:
        """Close the connections and the loop."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


KINDS = [Client, Blocking]
