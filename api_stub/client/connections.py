"""The connections of a client: closed before a server closes them, tried again if it did, and never shared by a fork.

A child process inherits the open sockets of its parent. Two processes that use one socket get each other's answers. So
the child leaves all of them, without a word to the server (no TLS close_notify), and makes its own. Streams that the
child continues resume on a new connection.
"""

import os
import socket
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import httpx2

Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)

# An idle connection is closed after this many seconds: before servers and proxies do, which wait for 2 s or more.
IDLE_S = 1.5
CLOSED = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


class Stream(Protocol):
    """What the HTTP library calls a network stream."""

    def get_extra_info(self, info: str) -> Any:
        """Return the socket for 'socket'."""


class Connections(Generic[Http]):
    """The HTTP client `http`, which *make* makes, and again in each child process."""

    def __init__(self, make: Callable[[], Http]) -> None:
        self.http: Http = make()
        self._make: Callable[[], Http] = make
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        _every.add(self)

    def attempt(self) -> "Attempt":
        """Return the record of one try of a request."""
        return Attempt(self._streams, asynchronous=isinstance(self.http, httpx2.AsyncClient))

    def leave(self) -> None:
        """Drop what was inherited, and make new connections: this is a child process."""
        for stream in list(self._streams):
            _leave(stream)
        self._streams.clear()
        _renew_locks(self.http)
        _left.append(self.http)
        self.http = self._make()


class Attempt:
    """Records one try of a request, by what the HTTP library reports through `extensions`."""

    def __init__(self, streams: "weakref.WeakSet[Stream]", *, asynchronous: bool) -> None:
        self._streams = streams
        self._asynchronous = asynchronous
        self._connected = False
        self._answered = False

    @property
    def extensions(self) -> dict[str, Any]:
        """What is passed with the request."""
        return {"trace": self._atrace if self._asynchronous else self._trace}

    def met_closed(self, error: httpx2.RequestError) -> bool:
        """Whether the connection was kept from an earlier request, and the server closed it instead of answering."""
        return isinstance(error, CLOSED) and not self._connected and not self._answered

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._streams.add(info["return_value"])
            self._connected = True
        elif event.endswith("receive_response_headers.complete"):
            self._answered = True

    async def _atrace(self, event: str, info: Mapping[str, Any]) -> None:
        self._trace(event, info)


_every: "weakref.WeakSet[Connections[Any]]" = weakref.WeakSet()
_left: list[object] = []  # kept: destroying an asynchronous client would touch the event loop of the parent


def _leave(stream: Stream) -> None:
    """Close this process's copy of a socket. The parent's connection stays as it is."""
    inherited = stream.get_extra_info("socket")
    if isinstance(inherited, socket.socket):
        inherited.close()
    elif inherited is not None and inherited.fileno() >= 0:
        # Owned by a transport of the parent's event loop, which must not be touched: its selector is shared with the
        # parent. The transport keeps the number, which now means nothing.
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, inherited.fileno(), inheritable=False)
        os.close(nothing)


def _renew_locks(http: httpx2.Client | httpx2.AsyncClient) -> None:
    """Free the lock of a pool that another thread held at the fork: that thread is not in this process.

    A stream that was begun before the fork needs it to end.
    """
    for transport in (http._transport, *http._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_optional_thread_lock"):
            pool._optional_thread_lock = type(pool._optional_thread_lock)()


def _leave_all() -> None:
    for connections in list(_every):
        connections.leave()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_leave_all)
