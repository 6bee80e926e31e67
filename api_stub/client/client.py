"""`Client`, for synchronous programs, and `AsyncClient`, for programs on an event loop.

`calls` describes their methods. A method calls its function there, and carries out the request that it returns.
"""

import asyncio
import inspect
import os
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

import httpx2

from api_stub.client import address, calls, pending_calls
from api_stub.client.connections import IDLE_S, Connections
from api_stub.client.core import Answer, Exchange, Listing, Request, Retries, Waiting, lost
from api_stub.client.streams import Reading
from api_stub.client.types import Run

P = ParamSpec("P")
T = TypeVar("T")
Sync = TypeVar("Sync")
Async = TypeVar("Async")
Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)


class _Method(Generic[P, Sync, Async]):
    """A method of both clients, with the name, the signature and the docstring of *call*.

    The client's method *how* carries out what *call* returns. It returns *Sync* in `Client`, *Async* in `AsyncClient`.
    """

    def __init__(self, call: Callable[P, object], how: str) -> None:
        def method(self: object, /, *args: P.args, **kwargs: P.kwargs) -> Any:
            return getattr(self, how)(call(*args, **kwargs))

        signature = inspect.signature(call)
        client = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [client, *signature.parameters.values()]
        method.__name__, method.__doc__ = call.__name__, call.__doc__
        method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # `help()` reads it
        self._method = method

    @overload
    def __get__(self, client: None, owner: object) -> Callable[..., Any]: ...
    @overload
    def __get__(self, client: "Client", owner: object) -> Callable[P, Sync]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: object) -> Callable[P, Async]: ...
    def __get__(self, client: object, owner: object) -> Callable[..., Any]:
        return self._method if client is None else MethodType(self._method, client)


def _sends(call: Callable[P, Request[T]]) -> _Method[P, T, Coroutine[Any, Any, T]]:
    return _Method(call, "_exchange")


def _waits(call: Callable[P, Waiting]) -> _Method[P, Run, Coroutine[Any, Any, Run]]:
    return _Method(call, "_wait")


def _lists(call: Callable[P, Listing[T]]) -> _Method[P, Generator[T, None, None], AsyncGenerator[T, None]]:
    return _Method(call, "_list")


def _reads(call: Callable[P, Reading[T]]) -> _Method[P, Generator[T, None, None], AsyncGenerator[T, None]]:
    return _Method(call, "_read")


class _Methods(Generic[Http]):
    """The methods of both clients."""

    enqueue = _sends(calls.enqueue)
    run = _waits(calls.run)
    wait = _waits(calls.wait)
    stream = _reads(calls.stream)
    cancel = _sends(calls.cancel)
    retry = _sends(calls.retry)
    continue_run = _sends(pending_calls.continue_run)
    decisions = _sends(pending_calls.decisions)
    pending = _lists(pending_calls.pending)
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

    create_batch = _sends(calls.create_batch)
    estimate_batch = _sends(calls.estimate_batch)
    add_to_batch = _sends(calls.add_to_batch)
    batches = _lists(calls.batches)
    batch = _sends(calls.batch)
    batch_items = _lists(calls.batch_items)
    batch_results = _reads(calls.batch_results)
    pause_batch = _sends(calls.pause_batch)
    resume_batch = _sends(calls.resume_batch)
    cancel_batch = _sends(calls.cancel_batch)
    retry_batch = _sends(calls.retry_batch)

    teams = _lists(calls.teams)
    export_user = _reads(calls.export_user)
    erase_user = _sends(calls.erase_user)

    def __init__(self, http: type[Http], url: str | None, key: str | None, retries: Retries | None) -> None:
        api = address.find(url, key, environment=os.environ)
        self._api = api.origin
        self._retries = retries or Retries()
        tls = api.authorities or httpx2.create_ssl_context(trust_env=False)  # once: it takes longer than all the rest

        def make() -> Http:
            return http(
                base_url=api.url,
                headers={"Authorization": f"Bearer {api.key}"},
                verify=tls,
                trust_env=False,  # otherwise HTTP_PROXY and the like would send the key and the texts to a proxy
                # No limit of connections: a stream holds one for long.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=IDLE_S),
            )

        self._connections: Connections[Http] = Connections(make)


class Client(_Methods[httpx2.Client]):
    """A connection to the API at *url*, with *key*. Close it, or use it in a `with`. Threads may share it.

    It may be made and used before a fork: each child process has connections of its own.

    The defaults are TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY, else the API that `team-sessions up` started in this
    directory.

    Raises:
        NotConfigured: there is no key, or the URL or the key is not valid.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, retries: Retries | None = None) -> None:
        super().__init__(httpx2.Client, url, key, retries)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connections.http.close()

    def _exchange(self, request: Request[T]) -> T:
        exchange = Exchange(request, self._retries, api=self._api)
        while not exchange.done:
            time.sleep(exchange.pause_s)
            attempt = self._connections.attempt()
            try:
                answer = request.send(self._connections.http.request, extensions=attempt.extensions)
            except httpx2.RequestError as error:
                exchange.take(lost(error, closed=attempt.met_closed(error)))
            else:
                exchange.take(Answer(answer.status_code, answer.headers, answer.content))
        return exchange.result

    def _wait(self, waiting: Waiting) -> Run:
        while not waiting.over:
            time.sleep(waiting.pause_s)
            waiting.take(self._exchange(waiting.request(now=time.monotonic())), now=time.monotonic())
        return waiting.run

    def _list(self, listing: Listing[T]) -> Generator[T, None, None]:
        while listing.request is not None:
            yield from listing.take(self._exchange(listing.request))

    def _read(self, reading: Reading[T]) -> Generator[T, None, None]:
        reading.begin(self._retries, api=self._api)
        while not reading.ended:
            time.sleep(reading.pause_s)
            attempt = self._connections.attempt()
            try:
                with reading.request().send(self._connections.http.stream, extensions=attempt.extensions) as answer:
                    head = Answer(answer.status_code, answer.headers, b"")
                    if reading.accepts(head):
                        for piece in answer.iter_bytes():
                            yield from reading.take(piece)
                            if reading.enough:
                                break
                        reading.closed()
                    else:
                        reading.failed(Answer(head.status, head.headers, answer.read()))
            except httpx2.RequestError as error:
                reading.failed(lost(error, closed=attempt.met_closed(error)))


class AsyncClient(_Methods[httpx2.AsyncClient]):
    """A connection to the API at *url*, with *key*, like `Client`. Close it, or use it in an `async with`.

    It belongs to one event loop, or to one in each process after a fork. To leave a `stream` before its end, close it
    with `contextlib.aclosing`.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, retries: Retries | None = None) -> None:
        super().__init__(httpx2.AsyncClient, url, key, retries)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.http.aclose()

    async def _exchange(self, request: Request[T]) -> T:
        exchange = Exchange(request, self._retries, api=self._api)
        while not exchange.done:
            await asyncio.sleep(exchange.pause_s)
            attempt = self._connections.attempt()
            try:
                answer = await request.send(self._connections.http.request, extensions=attempt.extensions)
            except httpx2.RequestError as error:
                exchange.take(lost(error, closed=attempt.met_closed(error)))
            else:
                exchange.take(Answer(answer.status_code, answer.headers, answer.content))
        return exchange.result

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
            attempt = self._connections.attempt()
            try:
                async with reading.request().send(
                    self._connections.http.stream, extensions=attempt.extensions
                ) as answer:
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
                reading.failed(lost(error, closed=attempt.met_closed(error)))
