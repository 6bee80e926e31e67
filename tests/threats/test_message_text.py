"""Message text is in the database, in its run's stream, and in `runs.enqueue` until it is taken: nowhere else.

Each way of a text into the product carries a mark of its own. Then every other place is read, and searched for all.
"""

import json
from collections import Counter
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from tests.support.system import wait_until
from tests.support.task_events import listening
from tests.threats import places
from tests.threats.house import MAX_INPUT, USER, House
from tests.threats.marks import derived, new_mark, stands_in

pytestmark = pytest.mark.processes
Marks = dict[str, str]  # way → mark


def test_message_text_stands_in_the_database_and_in_streams_alone(house: House) -> None:
    """Through both doors, taken, refused and failed; while messages wait, when all is done, and after erasure."""
    kept, refused = Marks(), Marks()
    with listening(house.shop) as events:
        converse(house, kept)
        describe_session(house, kept)
        fail(house, kept)
        be_refused_over_http(house, refused)
        be_refused_through_the_broker(house, kept)
        meet_unexpected_errors(house, refused)
        wait_while_nobody_works(house, kept, refused)
        wait_until(lambda: len(events) > 20, description="task events were heard")
        names = ("execute_tool stumble", "refresh_summary sums-up-in-vain", "PATCH /v1/sessions/{session_id}")
        told = {span.name: span for span in list(house.traces.spans)}
        assert [name for name in names if name not in told] == []
        errors = {name: told[name].facts["error.type"] for name in names[:2]}
        assert errors == {"execute_tool stumble": "ValueError", "refresh_summary sums-up-in-vain": "internal"}

        rows = places.database(house)
        found = search(house, kept | refused, events)

        assert {way for way, mark in kept.items() if not stands_in(rows, mark)} == set()
        assert {way for way, mark in refused.items() if stands_in(rows, mark)} == set()
        assert {place for place in found if not is_stream(place)} == set()
        assert {way for ways in found.values() for way in ways} >= {"input", "tool result", "reply", "task of a member"}
        with Redis.from_url(house.broker) as redis:
            assert all(0 < redis.ttl(place.removeprefix("broker key ")) <= 3600 for place in found)

        erased = house.http.delete(f"/v1/users/{USER}").json()
        assert erased["streams"] > 0
        assert search(house, kept | refused, events) == {}
        assert [way for way, mark in kept.items() if stands_in(places.database(house), mark)] == []


def converse(house: House, kept: Marks) -> None:
    """Inputs, replies, tools that answer and that fail, a member and its tools, summaries."""
    mark = kept["input"] = new_mark()
    kept["tool argument"] = derived(mark, "argument of note")
    kept["tool result"] = derived(kept["tool argument"], "result")
    kept["session state"] = derived(kept["tool argument"], "state")
    kept["tool exception"] = derived(derived(mark, "argument of stumble"), "exception")
    task = kept["task of a member"] = derived(mark, "task")
    kept["argument of a member's tool"] = derived(task, "argument of note")
    kept["reply of a member"] = derived(task, "reply")
    kept["reply"] = derived(mark, "reply")
    run = house.ended(house.enqueue("derives", f"say {mark}", session_id="derives"))
    assert run["status"] == "completed", run

    kept["metadata of a run"] = new_mark()
    kept["over the wire"] = new_mark()
    about = {"metadata": {"note": kept["metadata of a run"]}}
    assert house.ended(house.enqueue("plain", f"[echo] {kept['over the wire']}", **about))["status"] == "completed"

    kept["through the broker"] = new_mark()
    house.order("order-taken", team="plain", input=kept["through the broker"], user_id=USER)
    assert house.under("order-taken")["status"] == "completed"

    kept["summary"] = new_mark()
    for team in ("sums-up", "sums-up-in-vain"):
        for words in (f"I am {kept['summary']}.", "And who am I?"):
            house.ended(house.enqueue(team, words, session_id=team))
    wait_until(lambda: summary(house, "sums-up").get("version"), description="there is a summary")
    assert kept["summary"] in summary(house, "sums-up")["text"]
    wait_until(lambda: "summary failed on an unexpected error" in house.log(), description="one could not be made")


def summary(house: House, session_id: str) -> dict[str, Any]:
    return dict(house.http.get(f"/v1/sessions/{session_id}/summary", params={"user_id": USER}).json())


def describe_session(house: House, kept: Marks) -> None:
    """Name, description, tags and metadata of a session."""
    fields = ("name", "description", "tags", "metadata")
    kept |= {f"{field} of a session": new_mark() for field in fields}
    name, description, tag, note = (kept[f"{field} of a session"] for field in fields)
    body = {"name": name, "description": description, "tags": [tag], "metadata": {note: note}}

    assert house.http.patch("/v1/sessions/derives", params={"user_id": USER}, json=body).status_code == 200
    assert house.http.get("/v1/sessions", params={"name": name, "tag": tag}).json()["data"]


def fail(house: House, kept: Marks) -> None:
    """Models whose provider refuses in words that repeat the input, that break off, and that raise what none should."""
    for way, (team, words) in {
        "refused by the provider": ("plain", "[fail=400]"),
        "failed by the provider": ("plain", "[fail=500]"),
        "limited by the provider": ("plain", "[fail=429]"),
        "broken off by the provider": ("plain", "[echo] [cut=2]"),
        "garbled by the provider": ("plain", "[garbage]"),
        "raised by a model": ("broken", ""),
        "refused to a member": ("leads", "[delegate=a] task: [fail=400]"),
    }.items():
        kept[way] = new_mark()
        run = house.ended(house.enqueue(team, f"{words} {kept[way]}"))
        assert run["status"] == "failed" or "member" in way, run
    assert kept["refused by the provider"] in places.database(house).decode(), "the provider's words are kept there"


def be_refused_over_http(house: House, refused: Marks) -> None:
    """Bodies, headers, paths and queries that are refused. Nothing of them is kept anywhere."""

    def order(
        way: str, status: int, content: bytes = b"", /, headers: dict[str, str] | None = None, **body: Any
    ) -> None:
        sent = content or json.dumps({"team": "plain", "input": refused[way], "user_id": USER} | body).encode()
        type_ = {"Content-Type": "application/json"}
        answer = house.http.post("/v1/runs", content=sent, headers=type_ | (headers or {}))
        assert answer.status_code == status, (way, answer.text)

    ways = (
        *("input too large", "body too large", "invalid JSON", "no UTF-8", "unknown field", "its name", "wrong type"),
        *("unknown team", "no time", "NUL in metadata", "wrong key", "key of another kind", "idempotency key", "path"),
        *("query", "cursor", "event id", "conflict", "method", "host", "another scheme"),
    )
    refused |= {way: new_mark() for way in ways}
    order("input too large", 413, input=refused["input too large"] * MAX_INPUT)
    order("body too large", 413, b'{"input": "' + refused["body too large"].encode() * 20_000)
    order("invalid JSON", 400, f'{{"team": "plain", "input": "{refused["invalid JSON"]}'.encode())
    order("no UTF-8", 400, f'{{"input": "{refused["no UTF-8"]}'.encode() + b'\xff"}')
    order("unknown field", 422, colour=refused["unknown field"])
    order("its name", 422, **{refused["its name"]: 1})
    order("wrong type", 422, input=[refused["wrong type"]], metadata=refused["wrong type"])
    order("unknown team", 404, team=refused["unknown team"])
    order("no time", 422, not_before=refused["no time"])
    order("NUL in metadata", 422, metadata={refused["NUL in metadata"]: "\0"})
    order("wrong key", 401, headers={"Authorization": f"Bearer ts_0123456789abcdef_{refused['wrong key']}"})
    order("key of another kind", 401, headers={"Authorization": f"Bearer {refused['key of another kind']}"})
    order("another scheme", 401, headers={"Authorization": f"Basic {refused['another scheme']}"})
    order("idempotency key", 422, headers={"Idempotency-Key": refused["idempotency key"] * 20})
    headers = {"Idempotency-Key": "taken"}
    house.ended(str(house.http.post("/v1/runs", json={"team": "plain", "input": "x"}, headers=headers).json()["id"]))
    order("conflict", 409, headers=headers, user_id="")
    with_words = {
        f"/v1/sessions/{refused['path']}/messages": 404,
        f"/v1/{refused['path']}": 404,
        f"/v1/runs/{refused['path']}/why": 404,
        f"/v1/runs?cursor={refused['cursor']}": 422,
        f"/v1/runs?status={refused['query']}&{refused['query']}=1": 422,
    }
    assert {path: house.http.get(path).status_code for path in with_words} == with_words
    run = house.http.get("/v1/runs", params={"limit": 1}).json()["data"][0]["id"]
    last = {"Last-Event-ID": refused["event id"]}
    assert house.http.get(f"/v1/runs/{run}/events", headers=last).status_code == 422
    assert house.http.request(refused["method"], "/v1/runs").status_code == 400
    aside = dict.fromkeys(("Host", "X-Request-Id", "User-Agent"), refused["host"])
    assert house.http.get("/v1/runs", headers=aside).status_code == 200


def be_refused_through_the_broker(house: House, kept: Marks) -> None:
    """Orders that are refused are kept as failed runs, with what can be kept of them."""
    for way, order in {
        "order of an unknown team": {"team": "nobody"},
        "order with an unknown field": {"colour": "red"},
        "order with a wrong choice": {"on_busy": "whatever"},
        "order of a wrong type": {"metadata": "words"},
    }.items():
        kept[way] = new_mark()
        house.order(way, **({"team": "plain", "input": kept[way], "user_id": USER} | order))
        assert house.under(way)["status"] == "failed"
    way = "order of a megabyte"  # servers like to keep the beginning of a large command
    kept[way] = new_mark()
    house.order(way, team="plain", input=kept[way] * 60_000, user_id=USER)
    assert house.under(way)["error"]["code"] == "input_too_large"


def meet_unexpected_errors(house: House, refused: Marks) -> None:
    """A constraint that we know nothing of refuses a row, and the driver's words repeat the whole of it."""
    mark = refused["repeated by the database"] = new_mark()
    if house.system.db.is_sqlite:
        rule = f"WHEN new.user_id = 'boom' BEGIN SELECT RAISE(ABORT, 'Failing row contains {mark}'); END"
        broken, mended = f"CREATE TRIGGER refuses BEFORE INSERT ON runs {rule}", "DROP TRIGGER refuses"
    else:
        broken = "ALTER TABLE team_sessions.runs ADD CONSTRAINT refuses CHECK (user_id <> 'boom')"
        mended = "ALTER TABLE team_sessions.runs DROP CONSTRAINT refuses"
    with house.system.db.write() as tx:
        tx.execute(text(broken))

    answer = house.http.post("/v1/runs", json={"team": "plain", "input": mark, "user_id": "boom"})
    house.order("boom", team="plain", input=mark, user_id="boom")
    said = {"raised unexpected", "IntegrityError", "runs.enqueue", "boom"}
    wait_until(
        lambda: any(all(word in line for word in said) for line in house.log().splitlines()),
        description="the order has failed",
    )

    with house.system.db.write() as tx:
        tx.execute(text(mended))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert mark not in answer.text


def wait_while_nobody_works(house: House, kept: Marks, refused: Marks) -> None:
    """Runs, a refresh and an order wait in the broker: the order's text stands there, and that of no other message."""
    kept |= {way: new_mark() for way in ("running", "waiting", "behind", "in the background", "order that waits")}
    orders = [f"order-{n}" for n in range(3)]
    running = house.enqueue("plain", f"[delay=3] {kept['running']}", session_id="busy")
    wait_until(lambda: house.http.get(f"/v1/runs/{running}").json()["status"] == "running", description="it runs")
    with house.workers_frozen():  # each of them may have asked for one message more, and holds it unread
        waiting = [house.enqueue("plain", kept["waiting"]) for _ in range(3)]
        waiting.append(house.enqueue("plain", kept["behind"], session_id="busy"))
        waiting += [house.enqueue("plain", kept["in the background"], priority="background") for _ in range(3)]
        assert house.http.post("/v1/sessions/derives/summary", params={"user_id": USER}).status_code == 202
        for key in orders:
            house.order(key, team="plain", input=kept["order that waits"], user_id=USER)
        found = {place: set(ways) for place, ways in in_broker(house, kept | refused).items() if not is_stream(place)}
        with Redis.from_url(house.broker) as redis:
            assert {"runs", "batch", "enqueue"} <= {key.decode() for key in redis.scan_iter()}

    assert found == {"broker key enqueue": {"order that waits"}}
    assert {house.ended(run)["status"] for run in [*waiting, running]} == {"completed"}
    assert {house.under(key)["status"] for key in orders} == {"completed"}


def in_broker(house: House, marks: Marks) -> dict[str, list[str]]:
    return _found(list(places.broker(house)), marks)


def search(house: House, marks: Marks, events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return which marks stand where outside of the database, and print where was looked, and how much was read."""
    read = list(places.everywhere_else(house, events))
    bytes_read: Counter[str] = Counter()
    for place, data in read:
        bytes_read["streams of runs" if is_stream(place) else place] += len(data)
    print(f"\n{len(marks)} marks; the database has {len(places.database(house))} bytes")
    for place, size in sorted(bytes_read.items()):
        print(f"{size:>10} bytes  {place}")
    assert all(
        bytes_read[place] for place in ("logs of up and all its children", "Flower /api/tasks", "task events", "traces")
    )
    return _found(read, marks)


def _found(read: list[places.Place], marks: Marks) -> dict[str, list[str]]:
    found = {place: [way for way, mark in marks.items() if stands_in(data, mark)] for place, data in read}
    return {place: ways for place, ways in found.items() if ways}


def is_stream(place: str) -> bool:
    """Tell whether a place is the stream of a run, which lives for an hour."""
    return place.startswith("broker key run:") and place.endswith(":events")
