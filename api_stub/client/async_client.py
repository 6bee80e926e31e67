"""`AsyncClient`, for programs on an event loop. Its methods are described in `calls` and `batches`."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx2

from api_stub.client import batches as batch_calls
from api_stub.client import calls
from api_stub.client.address import find
from api_stub.client.core import Answer, Exchange, Listing, Lost, Request, Retries, Waiting, lost
from api_stub.client.methods import as_method
from api_stub.client.streams import Reading
from api_stub.client.types import Run

P = ParamSpec("P")
T = TypeVar("T")


def _sends(call: Callable[P, Request[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._exchange(call(*args, **kwargs))

    return as_method(method, call)


def _waits(call: Callable[P, Waiting]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, Run]]:
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> Run:
        return await self._wait(call(*args, **kwargs))

    return as_method(method, call)


def _lists(call: Callable[P, Listing[T]]) -> Callable[Concatenate["AsyncClient", P], AsyncGenerator[T, None]]:
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._list(call(*args, **kwargs))

    return as_method(method, call)


def _reads(call: Callable[P, Reading[T]]) -> Callable[Concatenate["AsyncClient", P], AsyncGenerator[T, None]]:
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return self._read(call(*args, **kwargs))

    return as_method(method, call)


class AsyncClient:
    """A connection to the API at *url*, with *key*, like `Client`. Close it, or use it in an `async with`.

    It belongs to one event loop. To leave a `stream` before its end, close it with `contextlib.aclosing`.
    """

    enqueue = _sends(calls.enqueue)
    run = _waits(calls.run)
    wait = _waits(calls.wait)
    stream = _reads(calls.stream)
    cancel = _sends(calls.cancel)
    retry = _sends(calls.retry)
    why = _sends(calls.why)
    runs = _lists(calls.runs)

    sessions = _lists(calls.sessions)
    session = _sends(calls.session)
    update_session = _sends(calls.update_session)
    delete_session = _sends(calls.delete_session)
    messages = _lists(calls.messages)
    session_runs = _lists(calls.session_runs)
    summary = _sends(calls.summary)
    refresh_summary = _sends(calls.refresh_summary)

    create_batch = _sends(batch_calls.create_batch)
    estimate_batch = _sends(batch_calls.estimate_batch)
    add_to_batch = _sends(batch_calls.add_to_batch)
    batches = _lists(batch_calls.batches)
    batch = _sends(batch_calls.batch)
    batch_items = _lists(batch_calls.batch_items)
    batch_results = _reads(batch_calls.batch_results)
    pause_batch = _sends(batch_calls.pause_batch)
    resume_batch = _sends(batch_calls.resume_batch)
    cancel_batch = _sends(batch_calls.cancel_batch)
    retry_batch = _sends(batch_calls.retry_batch)

    teams = _lists(calls.teams)
    export_user = _reads(calls.export_user)
    erase_user = _sends(calls.erase_user)

    def __init__(self, url: str | None = None, key: str | None = None, *, retries: Retries | None = None) -> None:
        address = find(url, key, environment=os.environ)
        self._api = address.origin
        self._retries = retries or Retries()
        self._http = httpx2.AsyncClient(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.key}"},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),  # a stream holds one for long
        )

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _exchange(self, request: Request[T]) -> T:
        exchange = Exchange(request, self._retries, api=self._api)
        while not exchange.done:
            await asyncio.sleep(exchange.pause_s)
            exchange.take(await self._send(request))
        return exchange.result

    async def _send(self, request: Request[T]) -> Answer | Lost:
        try:
            answer = await request.send(self._http.request)
        except httpx2.RequestError as error:
            return lost(error)
        return Answer(answer.status_code, answer.headers, answer.content)

    async def _wait(self, waiting: Waiting) -> Run:
        while not waiting.over:
            await asyncio.sleep(waiting.pause_s)
            waiting.take(await self._exchange(waiting.request(now=time.monotonic())), now=time.monotonic())
        return waiting.run

    async def _list(self, listing: Listing[T]) -> AsyncGenerator[T, None]:
        while listing.request is not None:
            for item in listing.take(await self._exchange(listing.request)):
                yield item

    async def _read(self, reading: Reading[T]) -> AsyncGenerator[T, None]:
        reading.begin(self._retries, api=self._api)
        while not reading.ended:
            await asyncio.sleep(reading.pause_s)
            try:
                async with reading.request().send(self._http.stream) as answer:
                    head = Answer(answer.status_code, answer.headers, b"")
                    if reading.accepts(head):
                        async for piece in answer.aiter_bytes():
                            for item in reading.take(piece):
                                yield item
                            if reading.enough:
                                break
                        reading.closed()
                    else:
                        reading.failed(Answer(head.status, head.headers, await answer.aread()))
            except httpx2.RequestError as error:
                reading.failed(lost(error))
