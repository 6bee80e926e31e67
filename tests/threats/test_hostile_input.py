"""Bodies, headers and paths that are made to break a server: each is refused, or taken as the text that it is.

Single fields are tried in tests/api/test_bad_requests.py; here is what a parser meets before there is a field.
"""

import gzip
import json
import socket
from typing import Any

import pytest

from tests.support.system import wait_until
from tests.threats.house import MAX_INPUT, USER, House

pytestmark = pytest.mark.processes
DEPTHS = (63, 65, 200, 330, 480, 700, 900, 950, 980, 995, 1_000, 3_000, 100_000)
ORDER = b'{"team": "plain", "input": "hello", "user_id": "u-hostile", "metadata": {"a": HERE}}'
HOSTILE = {
    "a list in a list, and so on": b"[" * 100_000,
    "objects in objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "a number of 100,000 digits": ORDER.replace(b"HERE", b"9" * 100_000),
    "a number beyond any": ORDER.replace(b"HERE", b"1e999999999"),
    "a number below any": ORDER.replace(b"HERE", b"-1e999999999"),
    "no number": ORDER.replace(b"HERE", b"NaN"),
    "infinity": ORDER.replace(b"HERE", b"-Infinity"),
    "Latin-1": b'{"team": "plain", "input": "h\xe9llo"}',
    "a surrogate in UTF-8": b'{"team": "plain", "input": "\xed\xa0\x80"}',
    "an overlong NUL": b'{"team": "plain", "input": "a\xc0\x80b"}',
    "half an escape": rb'{"team": "plain", "input": "\ud83d"}',
    "an escape in the wrong order": rb'{"team": "plain", "input": "\udc00\ud800"}',
    "NUL in a name of a field": rb'{"team": "plain", "input": "x", "a\u0000": 1}',
    "NUL between": ORDER.replace(b"HERE", b"1") + b"\0",
    "two values": b'{"team": "plain", "input": "x"} {}',
    "a form": b"team=plain&input=x",
    "compressed": gzip.compress(ORDER.replace(b"HERE", b"1")),
    "a bomb": gzip.compress(b"[" * 10_000_000),
    "no bytes": b"",
}


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/sessions/s-hostile", "/v1/runs/x/cancel", "/v1/users/x/export"])
@pytest.mark.parametrize("found", HOSTILE.values(), ids=HOSTILE)
def test_a_body_that_breaks_parsers_is_refused(house: House, found: bytes, path: str) -> None:
    """With 4xx and problem+json wherever a body is sent, also where none is expected; nothing of it is taken."""
    method = "PATCH" if "sessions" in path else "POST"
    coding = {"Content-Encoding": "gzip"} if found.startswith(b"\x1f\x8b") else {}

    answer = house.http.request(method, path, content=found, headers={"Content-Type": "application/json"} | coding)

    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert house.http.get("/v1/runs", params={"user_id": "u-hostile"}).json()["data"] == []


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("pair", [b"[]", b"{}"], ids=["lists", "objects"])
def test_nesting_of_any_depth_is_taken_or_refused(house: House, depth: int, pair: bytes) -> None:
    """Through both doors: no depth is parsed by one part and trips the next. What is taken can be read again."""
    opened, closed = (b"[", b"]") if pair == b"[]" else (b'{"a":', b"}")
    deep = opened * (depth - 1) + pair + closed * (depth - 1)
    body = ORDER.replace(b"HERE", deep).replace(b"u-hostile", b"u-deep")

    answer = house.http.post("/v1/runs", content=body, headers={"Content-Type": "application/json"})
    key = f"deep-{pair!r}-{depth}"
    dropped = house.log().count("message dropped")
    publish(house, b"[[], " + body + b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]', id=key)
    told = wait_until(lambda: outcome(house, key, dropped), description="the order was looked at")

    assert (answer.status_code == 202) == (depth == 63), answer.text
    assert answer.status_code in (202, 400, 413, 422)
    assert told == "taken" if depth == 63 else told in ("order_invalid", "invalid_json", "dropped")
    assert house.http.get("/v1/runs", params={"user_id": "u-deep", "limit": 200}).status_code == 200


def publish(house: House, body: bytes, **headers: Any) -> None:
    """Put an order into its queue as these bytes."""
    with house.shop.connection_for_write() as connection:
        options: dict[str, Any] = {"content_type": "application/json", "content_encoding": "utf-8"}
        about = {"task": "runs.enqueue", "lang": "py"} | headers
        connection.Producer().publish(body, exchange="enqueue", routing_key="enqueue", headers=about, **options)


def outcome(house: House, key: str, dropped: int) -> str | None:
    """Return what became of an order."""
    found = house.http.get("/v1/runs", params={"idempotency_key": key}).json()["data"]
    if found:
        return found[0]["error"]["code"] if found[0]["error"] else "taken"
    return "dropped" if house.log().count("message dropped") > dropped else None


def test_the_last_of_two_fields_of_one_name_is_meant(house: House) -> None:
    """As JSON parsers mostly do (RFC 8259 §4); the one that is checked is the one that is used."""
    body = b'{"team": "nobody", "team": "plain", "input": "' + b"x" * 2 * MAX_INPUT + b'", "input": "hello"}'

    answer = house.http.post("/v1/runs", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["team"], answer.json()["input"]) == (202, "plain", "hello")
    assert house.ended(answer.json()["id"])["status"] == "completed"


def test_nobody_adds_a_header_to_an_answer(house: House) -> None:
    """Line ends in ids, encoded or as they are, in paths, queries and headers."""
    injected = "x\r\nX-Injected: yes\r\n\r\n<html>"
    encoded = "x%0d%0aX-Injected:%20yes%0d%0a%0d%0a<html>"
    asked = [
        house.http.post("/v1/runs", json={"team": "plain", "input": "x", "session_id": injected}),
        house.http.post("/v1/runs", json={"team": "plain", "input": "x", "user_id": injected}),
        house.http.get(f"/v1/runs/{encoded}"),
        house.http.get(f"/v1/runs/{encoded}/events"),
        house.http.get(f"/v1/sessions/{encoded}/messages?user_id={encoded}&cursor={encoded}"),
        house.http.get(f"/{encoded}"),
        house.http.post("/v1/runs", json={"team": "plain", "input": "x"}, headers={"X-Request-Id": encoded}),
    ]

    for answer in asked:
        assert answer.status_code < 500
        assert "x-injected" not in answer.headers
        assert all("\r" not in value and "\n" not in value for value in answer.headers.values())
    assert asked[-1].headers["location"] == f"/v1/runs/{asked[-1].json()['id']}", "it is made of our id alone"
    said = raw(house, b"GET /v1/runs HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rX-Injected: yes\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"X-Injected" not in said


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://example.invalid/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["TLS", "version", "path", "headers", "length", "smuggled", "chunk", "HTTP/2", "proxy", "tunnel"],
)
def test_what_is_no_request_ends_its_own_connection_only(house: House, request_: bytes) -> None:
    """It is refused, or nothing is answered; it reaches no route, and the API goes on."""
    said = raw(house, request_)

    assert said == b"" or b" 40" in said.split(b"\r\n", 1)[0], said[:200]
    assert house.http.get("/readyz").status_code == 200


def raw(house: House, sent: bytes) -> bytes:
    """Send bytes to the API, and return what comes back."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        except ConnectionError:
            return b""


def kept_by_tools(house: House) -> list[str]:
    """Return what the tool `keep` was handed so far, in this house."""
    file = house.data / "kept.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_tool_is_handed_its_arguments_as_they_are(house: House) -> None:
    """Shell, SQL, formats, line ends, escapes, paths, templates: a tool gets the text, and nothing reads it before."""
    texts = [
        *("$(touch owned)", "`touch owned`", "; touch owned #", "| touch owned", "../../etc/passwd", "~root"),
        *("'; DROP TABLE runs; --", '" OR 1=1', "%s%n%(x)s", "{0.__class__", "{{ 7 * 7", "${jndi:x"),
        *("two\nlines\r\n", "\x1b[31mred\x1b[0m", "a\tb\\n\\u0000", "<script>alert(1)</script>", "", " ", "null"),
        *("Überprüfung 検査 🙂", "-rf", "--help", "file:///etc/passwd", "__import__('os')", "\u202eabc"),
    ]
    calls = " ".join(
        f"[call=keep {json.dumps({'text': text})}]" for text in texts if "]" not in text and "}" not in text
    )

    before = kept_by_tools(house)

    run = house.ended(house.enqueue("keeps", calls, user_id=USER))

    kept = kept_by_tools(house)[len(before) :]
    assert run["status"] == "completed", run
    assert sorted(kept) == sorted(texts)
    assert not list(house.data.parent.rglob("owned"))
    path = f"/v1/sessions/{run['session_id']}/messages"
    told = house.http.get(path, params={"user_id": USER, "role": "tool", "limit": 200}).json()["data"]
    assert sorted(message["content"] for message in told) == sorted(texts)
