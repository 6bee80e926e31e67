"""What is sent and what an answer means, without a socket: retries, pages, waiting."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from api_stub.client import RequestFailed, Retries, Unreachable, calls
from api_stub.client.core import Answer, Exchange, Listing, Lost, Request, Waiting

FIRM = Retries(count=4, pause_s=1.0, jitter=lambda: 0.0)
LOST = Lost("ReadError")
API = "https://api.example"


def get() -> Request[Any]:
    return Request("GET", "/v1/runs/r")


def as_dict(method: str, url: str, **options: Any) -> dict[str, Any]:
    """What the HTTP library is called with."""
    return {"method": method, "url": url, **options}


def answer(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def pauses(*answers: Answer | Lost, request: Request[Any] | None = None, retries: Retries = FIRM) -> list[float]:
    """Return how long is waited behind each of these answers to one request."""
    exchange = Exchange(request or get(), retries, api=API)
    waited = []
    for one in answers:
        exchange.take(one)
        waited.append(exchange.pause_s)
    return waited


@pytest.mark.parametrize("failure", [LOST, *(answer(status) for status in (429, 502, 503, 504))], ids=str)
def test_what_can_pass_is_tried_again_with_growing_pauses(failure: Answer | Lost) -> None:
    """A lost connection, a limit, a service that is away: so many times, and then it is an error."""
    assert pauses(*[failure] * 4) == [1.0, 2.0, 4.0, 8.0]
    with pytest.raises((RequestFailed, Unreachable)):
        pauses(*[failure] * 5)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_what_cannot_pass_is_an_error_at_once(status: int) -> None:
    """The API has decided, or met an error that it has no name for."""
    with pytest.raises(RequestFailed) as refused:
        pauses(answer(status, b'{"code": "some_code", "detail": "Do this.", "retry": false}'))

    assert (refused.value.status, refused.value.code, str(refused.value)) == (status, "some_code", "Do this.")
    assert refused.value.retry is False


def test_pauses_are_bounded_and_spread() -> None:
    """None is longer than ten seconds, and clients that failed together do not come back together."""
    patient = Retries(count=2000, pause_s=1.0, jitter=lambda: 1.0)

    waited = pauses(*[LOST] * 2000, retries=patient)

    assert waited[:5] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert set(waited[4:]) == {5.0}
    assert len({Retries().pause(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("said", "waited"),
    [
        ({"retry_after": "7"}, 8.0),
        ({"retry_after": "0"}, 1.0),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:40 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}, 4.0),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT", "date": "Sun, 06 Nov 1994 08:49:40 GMT"}, 1.0),
        ({"retry_after": "Sun, 06 Nov 1994 08:49:40 GMT"}, 1.0),
        ({"retry_after": "soon"}, 1.0),
        ({"retry_after": "-3"}, 1.0),
        ({"retry_after": "١٢"}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_wish_of_the_api_is_kept(said: dict[str, str], waited: float) -> None:
    """Never sooner than it asks for, and a little later: everybody was told the same time."""
    assert pauses(answer(503, **said)) == [waited]


def test_who_asks_for_an_hour_is_not_waited_for() -> None:
    """The caller is told at once, and for how long."""
    with pytest.raises(RequestFailed) as refused:
        pauses(answer(429, retry_after="3600"))

    assert (refused.value.retry, refused.value.retry_after_s) == (True, 3600)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"ok"', b"{", b"\xff", b"[" * 100_000], ids=range(7))
def test_an_answer_that_cannot_be_read_is_no_answer(body: bytes) -> None:
    """It may come from anybody on the way: asked again, and then nobody knows."""
    with pytest.raises(Unreachable, match=r"^The API at https://api\.example gave no .*5 tries; .*not a JSON object"):
        pauses(*[answer(200, body)] * 5)


@pytest.mark.parametrize(
    ("failures", "method", "expected"),
    [
        ([Lost("ConnectError", sent=False)] * 5, "POST", "Cannot connect to the API at https://api.example"),
        ([Lost("ReadError"), *[Lost("ConnectError", sent=False)] * 4], "POST", "may have been carried out"),
        ([Lost("ReadError")] * 5, "GET", "the last one: ReadError)."),
    ],
)
def test_the_error_says_whether_the_request_may_have_been_carried_out(
    failures: list[Lost], method: str, expected: str
) -> None:
    """Not if no try had a connection, and not for a request that only reads."""
    with pytest.raises(Unreachable) as lost:
        pauses(*failures, request=Request(method, "/v1/runs"))

    assert expected in str(lost.value)
    assert ("carried out" in str(lost.value)) == (expected == "may have been carried out")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail": null, "code": null}', b"\xff"])
def test_an_error_that_is_not_the_apis_is_told_by_its_status(body: bytes) -> None:
    """A proxy's page is not shown."""
    with pytest.raises(RequestFailed, match=r"^The API at https://api\.example, or .* status 405\. Check") as refused:
        pauses(answer(405, body))

    assert refused.value.code == "http_error"


def test_an_enqueue_is_the_same_each_time_it_is_sent() -> None:
    """Its key is made once; whoever gives up tells it, so that the run can be found."""
    request = calls.enqueue("team", "hello")

    with pytest.raises(Unreachable) as lost:
        pauses(*[LOST] * 5, request=request)
    with pytest.raises(RequestFailed) as failed:
        pauses(answer(500), request=request)

    sent = request.send(as_dict)
    assert sent == request.send(as_dict)
    assert sent["headers"]["Idempotency-Key"].decode() == lost.value.idempotency_key == failed.value.idempotency_key
    assert calls.enqueue("team", "hello").headers != request.headers


def test_an_enqueue_says_what_was_given_and_nothing_else() -> None:
    """Each field by its name in the contract; times in UTC."""
    berlin = timezone(timedelta(hours=2))
    least = calls.enqueue("t", "hello", idempotency_key="k")
    most = calls.enqueue(
        "t",
        "ü\ud800",
        session_id="s",
        user_id="",
        on_busy="reject",
        priority="background",
        not_before=datetime(2026, 5, 1, 12, 30, tzinfo=berlin),
        timeout_s=1.5,
        metadata={},
    )

    assert (least.method, least.path, least.query) == ("POST", "/v1/runs", {})
    assert (least.body, least.headers) == ({"team": "t", "input": "hello"}, {"Idempotency-Key": "k"})
    assert most.body == {
        **{"team": "t", "input": "ü\ud800", "session_id": "s", "user_id": "", "on_busy": "reject"},
        **{"priority": "background", "not_before": "2026-05-01T10:30:00.000000Z", "timeout": 1.5, "metadata": {}},
    }
    assert most.send(as_dict)["content"].startswith(b'{"team": "t", "input": "\\u00fc\\ud800"')


def test_what_could_not_be_sent_is_refused_before_it_is() -> None:
    """A time without a zone, an id without a character, a key that HTTP would change."""
    for key in ("", " ", "a ", " a", "a\nb", "a\x00"):
        with pytest.raises(ValueError, match="idempotency_key"):
            calls.enqueue("t", "hello", idempotency_key=key)
    with pytest.raises(ValueError, match="has no zone"):
        calls.enqueue("t", "hello", not_before=datetime(2026, 5, 1))
    with pytest.raises(ValueError, match="An id is empty"):
        calls.delete_session("")
    assert calls.enqueue("t", "hello", not_before=datetime(2026, 5, 1, tzinfo=UTC)).body["not_before"][-1] == "Z"


@pytest.mark.parametrize(
    ("id", "spelled"),
    [("a/b", "a%2Fb"), ("..", "%2E%2E"), ("a?b#c", "a%3Fb%23c"), ("ü %", "%C3%BC%20%25"), ("a.b", "a%2Eb")],
)
def test_any_id_stays_one_part_of_its_path(id: str, spelled: str) -> None:
    """Whatever its owner chose, it names no other path."""
    assert calls.session(id).path == f"/v1/sessions/{spelled}"
    assert calls.cancel(id).path == f"/v1/runs/{spelled}/cancel"


def test_each_call_asks_what_the_contract_names() -> None:
    """Method, path, query, body."""
    asked = [
        calls.cancel("r", user_id="u"),
        calls.why("r"),
        calls.runs(status="failed", team="t", user_id="u", session_id="s", idempotency_key="k").request,
        calls.sessions(name="n", tag="x").request,
        calls.update_session("s", name="n", tags=[], user_id="u"),
        calls.update_session("s", description=None, metadata={}),
        calls.delete_session("s"),
        calls.messages("s", role="tool").request,
        calls.session_runs("s").request,
        calls.summary("s"),
        calls.refresh_summary("s"),
        calls.refresh_summary("s", rebuild=True),
        calls.teams().request,
        calls.export_user("u").request(),
        calls.erase_user("u"),
    ]

    assert [(r.method, r.path, r.query, r.body) for r in asked if r] == [
        ("POST", "/v1/runs/r/cancel", {"user_id": "u"}, None),
        ("GET", "/v1/runs/r/why", {}, None),
        (
            *("GET", "/v1/runs"),
            {
                **{"status": "failed", "team": "t", "user_id": "u", "session_id": "s"},
                **{"idempotency_key": "k", "limit": "200"},
            },
            None,
        ),
        ("GET", "/v1/sessions", {"name": "n", "tag": "x", "limit": "200"}, None),
        ("PATCH", "/v1/sessions/s", {"user_id": "u"}, {"name": "n", "tags": []}),
        ("PATCH", "/v1/sessions/s", {}, {"description": None, "metadata": {}}),
        ("DELETE", "/v1/sessions/s", {}, None),
        ("GET", "/v1/sessions/s/messages", {"role": "tool", "limit": "200"}, None),
        ("GET", "/v1/sessions/s/runs", {"limit": "200"}, None),
        ("GET", "/v1/sessions/s/summary", {}, None),
        ("POST", "/v1/sessions/s/summary", {}, None),
        ("POST", "/v1/sessions/s/summary", {"rebuild": "true"}, None),
        ("GET", "/v1/teams", {}, None),
        ("GET", "/v1/users/u/export", {}, None),
        ("DELETE", "/v1/users/u", {}, None),
    ]
    again = calls.retry("r", user_id="u", idempotency_key="k")
    assert (again.path, again.query, again.headers) == ("/v1/runs/r/retry", {"user_id": "u"}, {"Idempotency-Key": "k"})
    assert len(calls.retry("r").headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize("before", [LOST, answer(502), answer(504)], ids=["lost", "502", "504"])
def test_what_a_lost_try_has_deleted_is_deleted(before: Answer | Lost) -> None:
    """The answer was lost, not the deed: that it is gone by now is no error."""
    exchange = Exchange(calls.delete_session("s"), FIRM, api=API)

    exchange.take(before)
    exchange.take(answer(404))

    assert exchange.done
    assert exchange.result is None


def test_what_was_never_there_cannot_be_deleted() -> None:
    """Nothing was lost on the way, so the 404 is an answer; and so it is for whoever only looks."""
    with pytest.raises(RequestFailed):
        pauses(answer(429), answer(404), request=calls.delete_session("s"))
    with pytest.raises(RequestFailed):
        pauses(LOST, answer(404), request=calls.session("s"))


def test_pages_follow_their_cursors() -> None:
    """The question stays, the cursor moves, and behind the last page nothing is asked."""
    listing = calls.messages("s", role="user")
    queries, found = [], []

    for page in ({"data": [1, 2], "next_cursor": "a"}, {"data": [], "next_cursor": "b"}, {"data": [3]}):
        assert listing.request is not None
        queries.append(listing.request.query)
        found += listing.take(page)

    assert found == [1, 2, 3]
    assert [query.get("cursor") for query in queries] == [None, "a", "b"]
    assert all(query["role"] == "user" and query["limit"] == "200" for query in queries)
    assert listing.request is None


def steps(waiting: Waiting, *times: tuple[float, float, str]) -> list[str]:
    """Return the `wait` of each request: asked at a time, answered at another with a status."""
    asked = []
    for at, answered_at, status in times:
        assert not waiting.over
        asked.append(waiting.request(now=at).query["wait"])
        waiting.take({"id": "r", "status": status}, now=answered_at)
    return asked


def test_waiting_asks_in_pieces_that_the_api_takes() -> None:
    """A minute each, the rest at the end, and then the run as it is."""
    waiting = calls.run("r", wait_s=130)

    asked = steps(waiting, (5, 65, "queued"), (65, 125, "running"), (125, 135, "running"))

    assert asked == ["60.000", "60.000", "10.000"]
    assert waiting.over
    assert waiting.run["status"] == "running"
    assert waiting.request(now=135).silence_s >= 30


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "paused"])
def test_waiting_ends_with_the_run(status: str) -> None:
    """Also when it is paused: it would not go on by itself."""
    for waiting in (calls.run("r", wait_s=100), calls.wait("r"), calls.wait("r", timeout_s=3)):
        assert len(steps(waiting, (0, 3, status))) == 1
        assert waiting.over


def test_a_look_does_not_wait() -> None:
    """One question, answered at once."""
    waiting = calls.run("r")

    assert steps(waiting, (7, 7, "queued")) == ["0.000"]
    assert waiting.over


def test_waiting_in_vain_is_an_error_for_who_asked_for_the_end() -> None:
    """The run goes on, and the message says so."""
    with pytest.raises(TimeoutError, match=r"Run 'r' is running after 2 s\. It continues\."):
        steps(calls.wait("r", timeout_s=2), (0, 1, "queued"), (1, 2, "running"))


def test_an_api_that_does_not_hold_a_request_is_not_asked_in_circles() -> None:
    """It answers at once, though it was asked to wait."""
    waiting = calls.wait("r")

    steps(waiting, (0, 0.01, "queued"))

    assert waiting.pause_s > 0


def test_an_empty_list_is_asked_for_once() -> None:
    """One page, nothing in it."""
    listing: Listing[Any] = calls.sessions()

    assert listing.take({"data": [], "next_cursor": None}) == []
    assert listing.request is None
