"""A connection that the server closed is not used again, and if it closes just then, the request is sent once more."""

import time
from collections.abc import Callable, Iterable

import pytest

from api_stub.client import Retries, Unreachable, client
from api_stub.client.connections import IDLE_S
from tests.client.server import KEEP, RESET, Asked, Server, answer, flowing, kept, serving
from tests.client.story import EVENTS, spelled
from tests.support.clients import Connect

RUN = {"id": "r", "status": "queued", "session_id": "s"}
ONCE = Retries(count=0)
CLOSED: list[bytes | None] = []


def closing(at_second: list[bytes | None]) -> Callable[[Asked], Iterable[bytes | None]]:
    """Answer the first request of each connection and keep it; answer the second one as given."""
    used: set[int] = set()

    def respond(asked: Asked) -> Iterable[bytes | None]:
        if asked.connection in used:
            return at_second
        used.add(asked.connection)
        return kept(202, RUN)

    return respond


def keys(server: Server) -> list[str]:
    return [asked.headers["idempotency-key"] for asked in server.asked]


def connections(server: Server) -> list[int]:
    return [asked.connection for asked in server.asked]


@pytest.mark.parametrize("end", [CLOSED, [RESET]], ids=["closed", "reset"])
def test_a_kept_connection_that_is_closed_instead_of_an_answer_costs_no_try(
    connect: Connect, end: list[bytes | None]
) -> None:
    """Even without retries: the same request, with the same key, on a new connection. So for each request."""
    with serving(closing(end)) as server:
        enqueue = connect(server.url, retries=ONCE).enqueue
        assert [enqueue("t", "hello") for _ in range(3)] == [RUN] * 3

    first, *others = keys(server)
    assert connections(server) == [1, 1, 2, 2, 3]
    assert others[0::2] == others[1::2]
    assert len({first, *others}) == 3


def test_a_stream_begins_on_a_new_connection_when_the_kept_one_is_closed(connect: Connect) -> None:
    """Streams and lists too."""

    def respond(asked: Asked) -> list[bytes]:
        if asked.body:
            return kept(202, RUN)
        return [] if asked.connection == 1 else flowing("text/event-stream", spelled(EVENTS))

    with serving(respond) as server:
        api = connect(server.url, retries=ONCE)
        api.enqueue("t", "hello")
        assert list(api.stream("r")) == EVENTS

    assert connections(server) == [1, 1, 2]


def test_a_server_that_promises_to_keep_connections_and_closes_them_loses_no_request(connect: Connect) -> None:
    """The client sees the end before it sends, or sends the same request again."""

    def respond(_asked: Asked) -> list[bytes]:
        return [piece.replace(b"Connection: close", b"Connection: Keep-Alive") for piece in answer(202, RUN)]

    with serving(respond) as server:
        api = connect(server.url, retries=ONCE)
        assert [api.enqueue("t", "hello") for _ in range(5)] == [RUN] * 5

    assert len(set(keys(server))) == 5


def test_an_answer_that_broke_off_counts_as_a_try(connect: Connect) -> None:
    """On a kept connection as on a new one: the server works on the request, so the client waits before the next."""
    half = [kept(202, RUN)[0].replace(KEEP, b"Connection: close")[:-5]]
    with serving(closing(half)) as server:
        api = connect(server.url, retries=ONCE)
        api.enqueue("t", "hello")
        with pytest.raises(Unreachable, match="after 1 try"):
            api.enqueue("t", "hello")
        assert connect(server.url).enqueue("t", "hello") == RUN

    assert connections(server) == [1, 1, 2]


def test_a_server_that_never_answers_is_given_up(connect: Connect) -> None:
    """A new connection that is closed counts, so the tries end."""
    answered = iter([kept(202, RUN)])
    with serving(lambda _asked: next(answered, [])) as server:
        api = connect(server.url)
        api.enqueue("t", "hello")
        with pytest.raises(Unreachable, match="after 4 tries"):
            api.enqueue("t", "hello")

    assert len(server.asked) == 1 + 1 + 4


def test_an_idle_connection_is_closed_before_servers_do(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest wait of a common server is two seconds."""
    monkeypatch.setattr(client, "IDLE_S", 0.01)
    with serving(lambda _asked: kept(202, RUN)) as server:
        api = connect(server.url, retries=ONCE)
        api.enqueue("t", "hello")
        time.sleep(0.05)
        api.enqueue("t", "hello")

    assert connections(server) == [1, 2]
    assert IDLE_S < 2
