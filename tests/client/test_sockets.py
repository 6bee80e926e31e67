"""Both clients over real connections that break, stall and lie: requests have one effect, events are read once."""

import asyncio
import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from api_stub.client import AsyncClient, RequestFailed, Retries, Unreachable
from api_stub.client.core import Request
from api_stub.client.streams import Watch
from tests.client.server import RESET, Asked, answer, flowing, in_turn, problem, serving
from tests.client.story import EVENTS, behind, spelled
from tests.support.clients import Connect

RUN = {"id": "r", "status": "queued", "session_id": "s"}
DONE = {**RUN, "status": "completed"}
WAIT_S = 120.0  # far above what any of these needs; nothing is asserted about time
STREAM = "text/event-stream"
NO_ANSWER: list[bytes] = []
BROKEN = {
    "closed": NO_ANSWER,
    "reset": [RESET],
    "half a head": [b"HTTP/1.1 202 Acc"],
    "half a body": [answer(202, RUN)[0][:-5]],
    "no HTTP": [b"220 smtp ready\r\n\r\n"],
    "no JSON": answer(200, "<html>log in</html>"),
    "no gzip": answer(200, RUN, Content_Encoding="gzip"),
    "429": problem(429, "too_many", Retry_After="0"),
    "502": answer(502, "<html>Bad Gateway</html>"),
    "503": problem(503, "database_unavailable", Retry_After="0"),
    "504": answer(504),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_enqueue_without_an_answer_is_sent_again_with_its_key(connect: Connect, broken: list[bytes | None]) -> None:
    """Whatever came instead: the same order under the same key, until it is answered."""
    with serving(in_turn(broken, broken, answer(202, RUN))) as server:
        run = connect(server.url).enqueue("team", "hello", session_id="s", metadata={"a": 1})

    assert run == RUN
    assert len(server.asked) == 3
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 1
    body = {"team": "team", "input": "hello", "session_id": "s", "metadata": {"a": 1}}
    assert [(asked.method, asked.target, asked.body) for asked in server.asked] == [("POST", "/v1/runs", body)] * 3
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer a-key"}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_it_gives_up_and_tells_the_key(connect: Connect, broken: list[bytes | None]) -> None:
    """After so many tries; with the key, the caller can be sure later."""
    with serving(lambda _asked: broken) as server, pytest.raises((RequestFailed, Unreachable)) as given_up:
        connect(server.url).enqueue("team", "hello", idempotency_key="my-key")

    assert len(server.asked) == 4
    assert given_up.value.idempotency_key == "my-key"
    if isinstance(given_up.value, RequestFailed):
        assert given_up.value.retry


def test_where_nobody_listens_it_says_so(connect: Connect) -> None:
    """The port is closed, or the name does not exist: for a request and for a stream alike."""
    with serving(in_turn()) as gone:
        url = gone.url
    client = connect(url)

    with pytest.raises(Unreachable, match=r"Cannot connect to the API at http://127.*after 4 tries.*ConnectError"):
        client.run("r")
    with pytest.raises(Unreachable, match="ConnectError"):
        list(client.stream("r"))


def test_a_refusal_is_told_at_once(connect: Connect) -> None:
    """Asked once; with its code and its sentence."""
    with serving(in_turn(problem(409, "idempotency_conflict"))) as server, pytest.raises(RequestFailed) as refused:
        connect(server.url).enqueue("team", "hello")

    assert (refused.value.status, refused.value.code) == (409, "idempotency_conflict")
    assert str(refused.value) == "It is idempotency_conflict."
    assert len(server.asked) == 1


def test_any_key_of_yours_arrives_as_it_is(connect: Connect) -> None:
    """Also one that is no ASCII; a header is bytes."""
    with serving(in_turn(answer(202, RUN))) as server:
        connect(server.url).enqueue("team", "hello", idempotency_key="Bestellung 7, grün")

    assert server.asked[0].headers["idempotency-key"].encode("latin-1").decode() == "Bestellung 7, grün"


def test_a_deletion_whose_answer_was_lost_has_happened(connect: Connect) -> None:
    """The second try finds nothing: that is what was wanted."""
    with serving(in_turn([RESET], problem(404, "session_not_found"), answer(204))) as server:
        client = connect(server.url)

        assert client.delete_session("a/b", user_id="u") is None
        assert client.delete_session("s") is None

    targets = [asked.target for asked in server.asked]
    assert targets == [*["/v1/sessions/a%2Fb?user_id=u"] * 2, "/v1/sessions/s"]


def test_waiting_asks_until_the_run_has_ended(connect: Connect) -> None:
    """A request that broke while it was held is sent again; nothing is asked behind the end."""
    running = answer(200, {**RUN, "status": "running"})
    with serving(in_turn(running, [RESET], running, answer(200, DONE))) as server:
        run = connect(server.url).wait("r", user_id="u")

    assert run == DONE
    assert {asked.target for asked in server.asked} == {"/v1/runs/r?user_id=u&wait=60.000"}
    assert len(server.asked) == 4


def test_waiting_in_vain_ends_in_time(connect: Connect) -> None:
    """An error where the end was asked for, else the run as it is."""
    with serving(lambda _asked: answer(200, RUN)) as server:
        client = connect(server.url)

        assert client.run("r", wait_s=0.01) == RUN
        with pytest.raises(TimeoutError):
            client.wait("r", timeout_s=0.01)


def test_lists_are_read_page_by_page(connect: Connect) -> None:
    """Lazily: a page is asked for when somebody wants what is in it, and again when it did not come."""
    pages = [answer(200, {"data": [{"n": 1}, {"n": 2}], "next_cursor": "c+/="}), [RESET]]
    last = answer(200, {"data": [{"n": 3}], "next_cursor": None})
    with serving(in_turn(*pages, last)) as server:
        listed = iter(connect(server.url).runs(status="failed"))
        assert server.asked == []
        assert [next(listed), next(listed)] == [{"n": 1}, {"n": 2}]
        assert len(server.asked) == 1
        assert list(listed) == [{"n": 3}]

    targets = [asked.target for asked in server.asked]
    query = "/v1/runs?status=failed&limit=200"
    assert targets == [query, *[query + "&cursor=c%2B%2F%3D"] * 2]


class Api:
    """Tells the story as the API does, from wherever a reader resumes; connection n breaks behind cuts[n] bytes."""

    def __init__(self, cuts: Iterable[int | None], *, ends: list[bytes | None]) -> None:
        self._cuts = iter(cuts)
        self._ends = ends

    def __call__(self, asked: Asked) -> list[bytes | None]:
        body = behind(asked.headers.get("last-event-id"))
        cut = next(self._cuts)
        return [*flowing(STREAM, body, cut=cut), *([] if cut is None else self._ends)]


def last_whole(cut: int) -> str | None:
    """Return the id of the last event that is whole in the first *cut* bytes of the story."""
    whole = [event.id for n, event in enumerate(EVENTS, 1) if len(spelled(EVENTS[:n])) <= cut]
    return whole[-1] if whole else None


ENDS = {"closed": [], "reset": [RESET], "ended": [b"0\r\n\r\n"], "garbage": [b"zz\r\n"]}


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS.keys())
def test_a_stream_that_breaks_anywhere_is_read_once_and_whole(connect: Connect, ends: list[bytes | None]) -> None:
    """At each seventh byte; closed, reset, ended in good order or in bad: it is resumed behind the last whole event."""
    places = range(0, len(spelled(EVENTS)) - 1, 7)
    with serving(Api([cut for place in places for cut in (place, None)], ends=ends)) as server:
        client = connect(server.url)

        read = [list(client.stream("r")) for _ in places]

    assert read == [EVENTS] * len(places)
    last_ids = [asked.headers.get("last-event-id") for asked in server.asked]
    assert last_ids == [last_id for place in places for last_id in (None, last_whole(place))]


def test_a_stream_that_breaks_all_the_time_is_read_once_and_whole(connect: Connect) -> None:
    """Twenty connections, each of which brings a little: far more than the tries that one request has."""
    with serving(Api([100, 30, 20, 60, 150] * 3 + [400, 10] * 2 + [None], ends=[])) as server:
        events = list(connect(server.url).stream("r", after="0-1"))

    assert events == EVENTS[1:]
    assert len(server.asked) > 8


def test_a_stream_waits_for_a_service_that_is_away(connect: Connect) -> None:
    """While it is deployed, what stands before it answers 502 and 503; a login page is no stream either."""
    away = [
        answer(502),
        problem(503, "database_unavailable", Retry_After="0"),
        answer(200, "<html>", Content_Type="a/b"),
    ]
    begun = flowing(STREAM, spelled(EVENTS), cut=len(spelled(EVENTS[:3])))
    rest = flowing(STREAM, behind("1-2"))
    with serving(in_turn(*away, begun, *away[1:], rest)) as server:
        assert list(connect(server.url).stream("r")) == EVENTS

    assert [asked.headers.get("last-event-id") for asked in server.asked] == [*[None] * 4, *["1-2"] * 3]


def test_a_stream_that_is_garbled_is_given_up(connect: Connect) -> None:
    """What came before it was read."""
    garbled = flowing(STREAM, spelled(EVENTS[:2]) + b"id: 1-2\ndata: [1]\n\n" + spelled(EVENTS[2:]))
    seen: list[Any] = []
    with serving(lambda _asked: garbled) as server, pytest.raises(Unreachable, match="not a JSON object"):
        seen.extend(connect(server.url).stream("r"))

    assert seen == EVENTS[:2]
    assert len(server.asked) == 4


def test_the_stream_of_a_run_that_is_erased_meanwhile_ends_with_an_error(connect: Connect) -> None:
    """Nothing comes behind its last event, because there is nothing any more."""
    with serving(in_turn(flowing(STREAM, spelled(EVENTS[:4])), problem(404, "run_not_found"))) as server:
        watching = connect(server.url).stream("r")
        seen = [next(watching) for _ in range(4)]
        with pytest.raises(RequestFailed) as gone:
            next(watching)

    assert seen == EVENTS[:4]
    assert gone.value.code == "run_not_found"


def test_a_connection_that_has_fallen_silent_is_left(connect: Connect) -> None:
    """Its end never came, as when a machine on the way is gone; the stream is resumed on a new one."""
    left = threading.Event()

    def silent(asked: Asked) -> Iterable[bytes]:
        if asked.headers.get("last-event-id"):
            yield from flowing(STREAM, behind("1-2"))
            left.set()
        else:
            yield from flowing(STREAM, spelled(EVENTS[:3]))[:2]
            left.wait(WAIT_S)

    with serving(silent) as server:
        client = connect(server.url)
        # Patient for 0.2 s and not for the half minute that `stream` gives the API.
        watch = Watch(Request("GET", "/v1/runs/r/events", silence_s=0.2), after=None)

        assert list(client._read(watch)) == EVENTS


def test_who_leaves_a_stream_leaves_its_connection(connect: Connect) -> None:
    """The API sees it, and the client goes on."""

    def endless(asked: Asked) -> Iterable[bytes | None]:
        if not asked.target.endswith("/events"):
            yield from answer(200, DONE)
            return
        yield from flowing(STREAM, spelled(EVENTS[:3]))[:2]
        while True:
            yield b"10\r\n: still here .\n\n\r\n"

    with serving(endless) as server:
        client = connect(server.url)
        watching = client.stream("r")
        assert next(watching) == EVENTS[0]
        watching.close()

        assert server.left.wait(WAIT_S)
        assert client.run("r") == DONE


def test_many_streams_are_followed_at_the_same_time() -> None:
    """As many as there are runs to watch: none waits for another's connection."""
    count = 150
    together = threading.Barrier(count, timeout=WAIT_S)

    def hold(_asked: Asked) -> Iterable[bytes]:
        together.wait()
        return flowing(STREAM, spelled(EVENTS))

    async def follow(client: AsyncClient) -> list[Any]:
        return [event async for event in client.stream("r")]

    async def follow_all(url: str) -> list[list[Any]]:
        async with AsyncClient(url, "k", retries=Retries(count=0)) as client:
            return await asyncio.gather(*(follow(client) for _ in range(count)))

    with serving(hold) as server:
        assert asyncio.run(follow_all(server.url)) == [EVENTS] * count


def test_who_forgets_to_close_an_async_stream_does_no_harm() -> None:
    """A `break` in an `async for`: the connection is closed nevertheless, without a warning."""

    async def look_at_the_first(url: str) -> list[Any]:
        seen = []
        async with AsyncClient(url, "k") as client:
            async for event in client.stream("r"):
                seen.append(event)
                break
        return seen

    with serving(in_turn(flowing(STREAM, spelled(EVENTS), cut=400))) as server:
        assert asyncio.run(look_at_the_first(server.url)) == EVENTS[:1]


LINES = [{"n": n, "text": "ü🦉\u2028"} for n in range(4)]
EXPORT = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()
JSON_LINES = "application/x-ndjson"


def test_an_export_is_read_line_by_line(connect: Connect) -> None:
    """It is asked for again while nothing of it has been read."""
    with serving(in_turn([RESET], flowing(JSON_LINES, EXPORT, cut=9), flowing(JSON_LINES, EXPORT))) as server:
        assert list(connect(server.url).export_user("a b")) == LINES

    assert {asked.target for asked in server.asked} == {"/v1/users/a%20b/export"}


def test_an_export_that_breaks_off_is_an_error(connect: Connect) -> None:
    """It does not begin again behind the reader's back, and what was read does not look like all of it."""
    seen: list[Any] = []
    broken = flowing(JSON_LINES, EXPORT, cut=len(EXPORT) // 2 + 5)
    with serving(in_turn(broken)) as server, pytest.raises(Unreachable, match="after 2 lines, which are not all"):
        seen.extend(connect(server.url).export_user("u"))

    assert seen == LINES[:2]
