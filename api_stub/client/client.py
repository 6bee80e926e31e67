"""`Client`, for synchronous programs. Its methods are described in `calls` and `batches`."""

import os
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

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


def _sends(call: Callable[P, Request[T]]) -> Callable[Concatenate["Client", P], T]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._exchange(call(*args, **kwargs))

    return as_method(method, call)


def _waits(call: Callable[P, Waiting]) -> Callable[Concatenate["Client", P], Run]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Run:
        return self._wait(call(*args, **kwargs))

    return as_method(method, call)


def _lists(call: Callable[P, Listing[T]]) -> Callable[Concatenate["Client", P], Generator[T, None, None]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._list(call(*args, **kwargs))

    return as_method(method, call)


def _reads(call: Callable[P, Reading[T]]) -> Callable[Concatenate["Client", P], Generator[T, None, None]]:
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._read(call(*args, **kwargs))

    return as_method(method, call)


class Client:
    """A connection to the API at *url*, with *key*. Close it, or use it in a `with`. Threads may share it.

    The defaults are TEAM_SESSIONS_URL and TEAM_SESSIONS_KEY, else the API that `team-sessions up` started in this
    directory.

    Raises:
        NotConfigured: there is no key, or the URL or the key is not valid.
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
        self._http = httpx2.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.key}"},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),  # a stream holds one for long
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _exchange(self, request: Request[T]) -> T:
        exchange = Exchange(request, self._retries, api=self._api)
        while not exchange.done:
            time.sleep(exchange.pause_s)
            exchange.take(self._send(request))
        return exchange.result

    def _send(self, request: Request[T]) -> Answer | Lost:
        try:
            answer = request.send(self._http.request)
        except httpx2.RequestError as error:
            return lost(error)
        return Answer(answer.status_code, answer.headers, answer.content)

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
            try:
                with reading.request().send(self._http.stream) as answer:
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
                reading.failed(lost(error))
