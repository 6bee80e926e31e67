"""What the door refuses: with a status, a stable code, and nothing half written."""

import json
import socket
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from tests.api.door import MAX_INPUT, SECRET, Door, check_problem, name
from tests.support.system import wait_until
from worker import clock
from worker.store import tables

BODY_LIMIT = 6 * MAX_INPUT + 262_144
LONG = "x" * 256


@dataclass(frozen=True)
class Bad:
    """A request that is refused. `body` is sent as JSON; bytes as they are; a list of bytes in chunks, without length.

    `path` may name an existing run and its session: {run}, {session}.
    """

    status: int
    code: str
    body: Any = None
    method: str = "POST"
    path: str = "/v1/runs"
    headers: dict[str, str | bytes] = field(default_factory=dict)

    def send(self, http: httpx2.Client, existing_run: dict[str, Any]) -> httpx2.Response:
        content = json.dumps(self.body).encode() if isinstance(self.body, dict) else self.body
        headers = {"Content-Type": "application/json"} | self.headers
        path = self.path.format(run=existing_run["id"], session=existing_run["session_id"])
        return http.request(
            self.method, path, content=iter(content) if isinstance(content, list) else content, headers=headers
        )


def order(**fields: Any) -> dict[str, Any]:
    return {"team": "plain", "input": SECRET} | fields


def nested(depth: int) -> bytes:
    return json.dumps(order(metadata={"deep": "HERE"})).replace('"HERE"', "[" * depth + "]" * depth).encode()


def ask(path: str, status: int = 422, code: str = "invalid_request", **options: Any) -> Bad:
    return Bad(status, code, method="GET", path=path, **options)


INVALID = (422, "invalid_request")
TEXT = (422, "invalid_text")
IDENTIFIER = (422, "invalid_identifier")
RUNS = "/v1/runs"
MESSAGES = "/v1/sessions/{session}/messages"
NO_TIMES = [
    *(0, 1e18, True, [], "", "0", "1700000000", "NaN", "tomorrow", "2030-01-31", "2030-01-31T12:00:00"),
    *("2030-02-30T12:00:00Z", "2030-01-31T25:00:00Z", "2030-01-31T12:00:00+99:99", "10000-01-01T00:00:00Z"),
    *("0000-01-01T00:00:00Z", "-001-01-01T00:00:00Z", "٢٠٣٠-01-31T12:00:00Z"),
]
NO_DAYS = [
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59.999999Z"),
    *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "9999-01-01T00:00:00Z"),
]
REFUSED = {
    "team that nobody serves": Bad(404, "unknown_team", order(team="nobody")),
    "team of 256": Bad(*IDENTIFIER, order(team=LONG)),
    "team with NUL": Bad(*TEXT, order(team="a\0b")),
    "input empty": Bad(422, "empty_input", order(input="")),
    "input blank": Bad(422, "empty_input", order(input=" \n\t\u3000")),
    "input too large": Bad(413, "input_too_large", order(input=SECRET + "x" * MAX_INPUT)),
    "input too large in bytes": Bad(413, "input_too_large", order(input="é" * (MAX_INPUT // 2 + 1))),
    "input with NUL": Bad(*TEXT, order(input=SECRET + "\0")),
    "input with a lone surrogate": Bad(*TEXT, order(input=SECRET + "\ud800")),
    "input missing": Bad(*INVALID, {"team": "plain"}),
    "input of another type": Bad(*INVALID, order(input=[SECRET])),
    "input null": Bad(*INVALID, order(input=None)),
    "session_id of another type": Bad(*INVALID, order(session_id=7)),
    "session_id empty": Bad(*IDENTIFIER, order(session_id="")),
    "session_id of 256": Bad(*IDENTIFIER, order(session_id=LONG)),
    "session_id with NUL": Bad(*TEXT, order(session_id="a\0b")),
    "session_id with a lone surrogate": Bad(*TEXT, order(session_id="\udfff")),
    "session_id with a line end": Bad(*TEXT, order(session_id="a\nb")),
    "user_id of another type": Bad(*INVALID, order(user_id={})),
    "user_id of 256": Bad(*IDENTIFIER, order(user_id=LONG)),
    "user_id with NUL": Bad(*TEXT, order(user_id="a\0b")),
    "user_id with a lone surrogate": Bad(*TEXT, order(user_id="\ud800")),
    "metadata of another type": Bad(*INVALID, order(metadata=[1])),
    "metadata with NUL": Bad(*TEXT, order(metadata={"a": ["b\0"]})),
    "metadata with a NUL in a key": Bad(*TEXT, order(metadata={"a": {"\0": 1}})),
    "metadata with a lone surrogate": Bad(*TEXT, order(metadata={"a": "\ud800"})),
    "metadata with NaN": Bad(422, "invalid_json", order(metadata={"a": [float("nan")]})),
    "metadata with a number beyond any": Bad(422, "invalid_json", nested(1).replace(b"[]", b"1e400")),
    "metadata nested too deep to be kept": Bad(422, "invalid_json", nested(64)),
    "metadata nested too deep to be answered": Bad(
        422, "invalid_json", nested(300), headers={"Idempotency-Key": "deep"}
    ),
    "metadata nested too deep to be read": Bad(400, "malformed_json", nested(100_000)),
    "timeout 0": Bad(*INVALID, order(timeout=0)),
    "timeout below 0": Bad(*INVALID, order(timeout=-1)),
    "timeout beyond a day": Bad(*INVALID, order(timeout=86_401)),
    "timeout NaN": Bad(*INVALID, order(timeout=float("nan"))),
    "timeout infinite": Bad(*INVALID, order(timeout=float("inf"))),
    "timeout of 400 digits": Bad(*INVALID, order(timeout=10**400)),
    "timeout as text": Bad(*INVALID, order(timeout="120")),
    "timeout true": Bad(*INVALID, order(timeout=True)),
    "on_busy that is none": Bad(*INVALID, order(on_busy="wait")),
    "on_busy null": Bad(*INVALID, order(on_busy=None)),
    "priority that is none": Bad(*INVALID, order(priority=9)),
    "priority null": Bad(*INVALID, order(priority=None)),
    "a field too many": Bad(*INVALID, order(colour="red")),
    "a field too many, of a lone surrogate": Bad(*INVALID, order(**{"\ud800": 1})),
    "a body that is cut off": Bad(400, "malformed_json", b'{"team": "plain", "input": "' + SECRET.encode()),
    "a body that is not UTF-8": Bad(400, "malformed_json", b'{"team": "plain", "input": "\xff"}'),
    "a number of 5000 digits": Bad(400, "malformed_json", b'{"team": "plain", "input": ' + b"9" * 5000 + b"}"),
    "a body that is a list": Bad(*INVALID, b"[]"),
    "a body that is null": Bad(*INVALID, b"null"),
    "a body that is text": Bad(*INVALID, json.dumps(SECRET).encode()),
    "no body": Bad(*INVALID),
    "a body that is not said to be JSON": Bad(*INVALID, order(), headers={"Content-Type": "text/plain"}),
    "a body over the limit": Bad(413, "body_too_large", b"x" * (BODY_LIMIT + 1)),
    "a body over the limit, in chunks": Bad(413, "body_too_large", [b'{"input": "', *[b"x" * 50_000] * 7]),
    "Idempotency-Key empty": Bad(*IDENTIFIER, order(), headers={"Idempotency-Key": ""}),
    "Idempotency-Key of 256": Bad(*IDENTIFIER, order(), headers={"Idempotency-Key": LONG}),
    "no key": Bad(401, "key_missing", order(), headers={"Authorization": ""}),
    "another scheme": Bad(401, "key_missing", order(), headers={"Authorization": "Basic dTpw"}),
    "a scheme alone": Bad(401, "key_missing", order(), headers={"Authorization": "Bearer"}),
    "a key of another kind": Bad(401, "key_invalid", order(), headers={"Authorization": "Bearer sk-1_2_3"}),
    "a key that nobody made": Bad(401, "key_invalid", order(), headers={"Authorization": "Bearer ts_00_secret"}),
    "a key that is not ASCII": Bad(401, "key_invalid", order(), headers={"Authorization": b"Bearer ts_00_\xe9"}),
    "no key and a wrong body": Bad(401, "key_missing", order(input=1), headers={"Authorization": ""}),
    "no key for a read": ask(MESSAGES, 401, "key_missing", headers={"Authorization": ""}),
    "a path without anything": ask("/v2/runs", 404, "route_not_found"),
    "another method": Bad(405, "method_not_allowed", method="DELETE"),
    "cursor that is none": ask(MESSAGES + "?cursor=abc", 422, "invalid_cursor"),
    "cursor that is no base64": ask(MESSAGES + "?cursor=%C3%A9", 422, "invalid_cursor"),
    "cursor with NUL": ask(MESSAGES + "?cursor=%00", 422, "invalid_cursor"),
    "cursor beyond any seq": ask(MESSAGES + "?cursor=bWVzc2FnZXM6MjE0NzQ4MzY0OA", 422, "invalid_cursor"),
    "cursor of another list": ask(RUNS + "?cursor=bWVzc2FnZXM6MQ", 422, "invalid_cursor"),
    "limit 0": ask(MESSAGES + "?limit=0"),
    "limit 201 of runs": ask(RUNS + "?limit=201"),
    "status that is none": ask(RUNS + "?status=waiting"),
    "team with NUL in a query": ask(RUNS + "?team=%00", *TEXT),
    "session_id with NUL in a query": ask(RUNS + "?session_id=%00", *TEXT),
    "idempotency_key with NUL in a query": ask(RUNS + "?idempotency_key=%00", *TEXT),
    "cursor of messages for sessions": ask("/v1/sessions?cursor=bWVzc2FnZXM6MQ", 422, "invalid_cursor"),
    "limit 201 of sessions": ask("/v1/sessions?limit=201"),
    "tag with NUL in a query": ask("/v1/sessions?tag=%00", *TEXT),
    "name with NUL in a query": ask("/v1/sessions?name=%00", *TEXT),
    "session_id with NUL, to delete": Bad(*TEXT, method="DELETE", path="/v1/sessions/a%00"),
    "session that is absent, to change": Bad(404, "session_not_found", {}, method="PATCH", path="/v1/sessions/absent"),
    "session that is absent, to delete": Bad(404, "session_not_found", method="DELETE", path="/v1/sessions/absent"),
    "no body, to change": Bad(*INVALID, method="PATCH", path="/v1/sessions/{session}"),
    "no key for a list": ask(RUNS, 401, "key_missing", headers={"Authorization": ""}),
    "limit 201": ask(MESSAGES + "?limit=201"),
    "role that is none": ask(MESSAGES + "?role=system"),
    "session_id with NUL in a path": ask("/v1/sessions/a%00/messages", *TEXT),
    "user_id with NUL in a path": ask("/v1/users/a%00/export", *TEXT),
    "user_id with NUL, to erase": Bad(*TEXT, method="DELETE", path="/v1/users/a%00"),
    "user_id with NUL in a query": ask(MESSAGES + "?user_id=%00", *TEXT),
    "session that is absent": ask("/v1/sessions/absent/messages", 404, "session_not_found"),
    "wait -1": ask("/v1/runs/{run}?wait=-1"),
    "wait 61": ask("/v1/runs/{run}?wait=61"),
    "wait nan": ask("/v1/runs/{run}?wait=nan"),
    "run with NUL in a path": ask("/v1/runs/a%00", *TEXT),
    "run with NUL, to cancel": Bad(*TEXT, path="/v1/runs/a%00/cancel"),
    "run that is absent": ask("/v1/runs/absent?wait=5", 404, "run_not_found"),
    "run that is absent, to cancel": Bad(404, "run_not_found", path="/v1/runs/absent/cancel"),
    "run that is absent, to watch": ask("/v1/runs/absent/events", 404, "run_not_found"),
}
REFUSED |= {f"not_before {value}": Bad(*INVALID, order(not_before=value)) for value in NO_TIMES}
REFUSED |= {f"not_before {value}": Bad(422, "invalid_time", order(not_before=value)) for value in NO_DAYS}
REFUSED |= {
    f"Last-Event-ID {value}": ask("/v1/runs/{run}/events", 422, "invalid_event_id", headers={"Last-Event-ID": value})
    for value in ("x", "1", "1-", "-1-1", "1-x", "9-1", "1-18446744073709551616", "9" * 41 + "-1")
}


@pytest.fixture(scope="package")
def existing_run(door: Door) -> dict[str, Any]:
    """A run that has ended."""
    return door.ended(door.enqueue()["id"])


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_and_leaves_nothing(door: Door, existing_run: dict[str, Any], bad: Bad) -> None:
    """Each has its status and its code, in a problem that repeats nothing of the input, and no row is written."""
    before = door.rows()

    answer = bad.send(door.http, existing_run)

    check_problem(answer, status=bad.status, code=bad.code)
    assert door.rows() == before


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (RUNS, order(colour="red"), "body.colour: Extra inputs are not permitted"),
        (RUNS, [], "body: Input should be a valid dictionary or object to extract fields from"),
        ("/v1/batches", {"kind": "retry_failed", "a": 1}, "body.a: Extra inputs are not permitted"),
        (
            "/v1/batches",
            {"kind": "retry_failed", "select": {"a": 1}, "limits": []},
            "body.select.a: Extra inputs are not permitted; "
            "body.limits: Input should be a valid dictionary or object to extract fields from",
        ),
    ],
    ids=["field of a run", "run", "field of a batch", "parts of a batch"],
)
def test_what_is_wrong_with_a_body_is_named(door: Door, path: str, body: Any, detail: str) -> None:
    """In the same words for every body, without a name of Python's."""
    assert door.http.post(path, json=body).json()["detail"] == detail


def test_a_wrong_method_is_told_the_right_ones(door: Door) -> None:
    """RFC 9110 §15.5.6: a 405 names the methods that the path takes."""
    assert door.http.put("/v1/runs").headers["allow"] == "POST, GET"
    assert door.http.put("/openapi.json").headers["allow"] == "GET"


@pytest.mark.parametrize("value", [b"a\0b", b"a\x01b", b"a\rb"])
def test_a_header_that_is_no_http_is_refused(door: Door, value: bytes) -> None:
    """A NUL in a header ends at the parser, before anything of ours; it has no problem+json there."""
    before = door.rows()
    body = json.dumps(order()).encode()
    head = [
        b"POST /v1/runs HTTP/1.1",
        b"Host: localhost",
        f"Authorization: Bearer {door.system.key}".encode(),
        b"Content-Type: application/json",
        b"Idempotency-Key: " + value,
        f"Content-Length: {len(body)}".encode(),
    ]

    with socket.create_connection(("127.0.0.1", int(door.system.url.rsplit(":", 1)[1])), timeout=10) as connection:
        connection.sendall(b"\r\n".join(head) + b"\r\n\r\n" + body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")

    assert door.rows() == before


def test_a_session_stays_with_its_team(door: Door) -> None:
    """A run for another team is refused; its idempotency key is still free for the mended order."""
    session, key = name("s"), {"Idempotency-Key": name("k")}
    door.enqueue(session_id=session)
    before = door.rows()

    answer = door.http.post("/v1/runs", json=order(team="with-tool", session_id=session), headers=key)

    problem = check_problem(answer, status=409, code="session_of_other_team")
    assert repr(session) in problem["detail"]
    assert door.rows() == before
    assert door.http.post("/v1/runs", json=order(session_id=session), headers=key).status_code == 202


def test_a_revoked_key_ends_within_two_seconds(door: Door) -> None:
    """A key is remembered for two seconds at most."""
    key = door.new_key()
    with door.with_key(key) as http:
        assert http.get("/openapi.json").status_code == 200

        with door.system.db.write() as tx:
            row = tables.api_keys.c.id == key.split("_")[1]
            tx.execute(update(tables.api_keys).where(row).values(revoked_at=clock.now()))

        wait_until(lambda: http.get("/openapi.json").status_code == 401, description="it is refused", timeout_s=3)
        before = door.rows()
        check_problem(http.post("/v1/runs", json=order()), status=401, code="key_invalid")
        assert door.rows() == before


def test_a_backslash_is_not_a_nul(door: Door) -> None:
    r"""Metadata that spells the six characters \u0000 is text like any other."""
    run = door.enqueue(metadata={"pattern": r"\u0000", "deep": json.loads("[" * 60 + "]" * 60), "n": 10**40})

    assert run["metadata"]["pattern"] == r"\u0000"
    assert door.run(run["id"])["metadata"] == run["metadata"]


@pytest.mark.parametrize(
    "not_before", ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00-23:59", "2030-01-31 12:00:00.1234567+14:00", None]
)
def test_a_time_that_has_come_or_is_far_away_is_taken(door: Door, not_before: str | None) -> None:
    """With any offset; a run whose time is ahead says until when it waits."""
    run = door.enqueue(not_before=not_before)

    if not_before and not_before.startswith("2030"):
        why = door.http.get(f"/v1/runs/{run['id']}/why").json()
        assert (why["reason"], why["until"]) == ("not_before", "2030-01-30T22:00:00.123456Z")
        door.cancel(run["id"])
    assert door.ended(run["id"])
    assert door.http.get("/v1/runs", params={"session_id": run["session_id"]}).json()["data"][0]["id"] == run["id"]


def test_the_last_time_that_is_taken_can_be_told(door: Door) -> None:
    """The end of the year 9998, on both databases."""
    run = door.enqueue(not_before="9998-12-31T23:59:59.999999Z")

    why = door.http.get(f"/v1/runs/{run['id']}/why").json()

    assert (why["reason"], why["until"]) == ("not_before", "9998-12-31T23:59:59.999999Z")
    door.cancel(run["id"])
