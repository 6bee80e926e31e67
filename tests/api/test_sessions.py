"""A session as a resource: what it holds, how it is found, changed and deleted."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from api_stub.client import Client
from tests.api.door import Door, check_problem, name, read_events
from tests.api.test_runs import TIME
from tests.support.life import accept
from tests.support.system import system, wait_until
from tests.support.valkey import ValkeyServer

FIELDS = {
    *("id", "team", "user_id", "name", "description", "tags", "metadata", "state", "run_count", "message_count"),
    *("summary", "created_at", "updated_at"),
}


def session(door: Door, run: dict[str, Any]) -> dict[str, Any]:
    """Return the session of a run."""
    answer = door.http.get(f"/v1/sessions/{run['session_id']}", params={"user_id": run["user_id"]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def change(door: Door, run: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Change the session of a run and return it."""
    path = f"/v1/sessions/{run['session_id']}"
    answer = door.http.patch(path, params={"user_id": run["user_id"]}, json=fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def list_ids(door: Door, **params: Any) -> list[str]:
    """Return the ids of the sessions in a list, page by page."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = door.http.get("/v1/sessions", params=params | ({"cursor": cursor} if cursor else {})).json()
        ids += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return ids


def new(door: Door, **fields: Any) -> dict[str, Any]:
    """Return a run that has ended in a session of its own."""
    return door.ended(door.enqueue(**({"user_id": name("u")} | fields))["id"])


def test_a_session_has_the_fields_of_the_contract(door: Door) -> None:
    """With what its runs have left in it."""
    run = new(door)
    door.ended(door.enqueue(session_id=run["session_id"], user_id=run["user_id"])["id"])

    one = session(door, run)

    assert set(one) == FIELDS
    ids = {"id": run["session_id"], "team": "plain", "user_id": run["user_id"]}
    empty = {"name": None, "description": None, "tags": [], "metadata": {}, "state": {}, "summary": None}
    assert (ids | empty | {"run_count": 2, "message_count": 4}).items() <= one.items()
    assert all(TIME.fullmatch(one[at]) for at in ("created_at", "updated_at"))
    assert one["created_at"] < one["updated_at"]


def test_a_change_replaces_what_it_names_and_nothing_else(door: Door) -> None:
    """Null removes a name or a description; no field at all is no change."""
    run = new(door)
    all_fields = {"name": "Ä", "description": "…", "tags": ["a", "b", "a"], "metadata": {"n": {"m": [1, None]}}}

    first = change(door, run, **all_fields)
    second = change(door, run, name=None, tags=[])
    third = change(door, run, metadata={})
    same = change(door, run)

    assert all_fields.items() <= first.items()
    assert (all_fields | {"name": None, "tags": []}).items() <= second.items()
    assert (all_fields | {"name": None, "tags": [], "metadata": {}}).items() <= third.items()
    assert same == third == session(door, run)
    assert first["updated_at"] < second["updated_at"] < third["updated_at"]
    assert first["created_at"] == third["created_at"]


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (422, "invalid_request", {"state": {}}),
        (422, "invalid_request", {"id": "x"}),
        (422, "invalid_request", {"name": 7}),
        (422, "invalid_request", {"tags": None}),
        (422, "invalid_request", {"tags": "a"}),
        (422, "invalid_request", {"tags": ["a", 7]}),
        (422, "invalid_request", {"metadata": None}),
        (422, "invalid_request", []),
        (422, "invalid_text", {"name": "a\0"}),
        (422, "invalid_text", {"description": "\ud800"}),
        (422, "invalid_text", {"tags": ["a", "\0"]}),
        (422, "invalid_text", {"metadata": {"\0": 1}}),
        (422, "invalid_json", {"metadata": {"a": float("inf")}}),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_kept_is_refused(door: Door, status: int, code: str, body: Any) -> None:
    """Nothing of it is written, the fields that are in order neither."""
    run = new(door)
    before = change(door, run, name="kept")
    body = {"description": "new", **body} if isinstance(body, dict) else body

    headers = {"Content-Type": "application/json"}
    answer = door.http.patch(f"/v1/sessions/{run['session_id']}", content=json.dumps(body).encode(), headers=headers)

    check_problem(answer, status=status, code=code)
    assert session(door, run) == before


def test_sessions_are_listed_latest_activity_first(door: Door) -> None:
    """A message and a change are activity."""
    user = name("u")
    runs = [new(door, user_id=user) for _ in range(4)]
    a, b, c, d = (run["session_id"] for run in runs)

    assert list_ids(door, user_id=user) == [d, c, b, a]
    change(door, runs[1], name="now")
    door.ended(door.enqueue(user_id=user, session_id=a)["id"])
    assert list_ids(door, user_id=user, limit=1) == list_ids(door, user_id=user, limit=4) == [a, b, d, c]
    times = [session(door, run)["updated_at"] for run in (runs[0], runs[1], runs[3], runs[2])]
    assert times == sorted(times, reverse=True)


def test_sessions_are_found_by_team_name_and_tag(door: Door) -> None:
    """Names and tags are compared whole, and as they are."""
    user, tag = name("u"), name("ä\"'%_\\")
    plain, tool = new(door, user_id=user), new(door, user_id=user, team="with-tool")
    change(door, plain, name="Parcel", tags=["a", tag])
    change(door, tool, name="parcel", tags=[f"{tag} and more", "b"])
    ids = plain["session_id"], tool["session_id"]

    assert list_ids(door, user_id=user, team="plain") == [ids[0]]
    assert list_ids(door, user_id=user, name="Parcel") == list_ids(door, tag=tag) == [ids[0]]
    assert list_ids(door, user_id=user, name="parcel") == list_ids(door, user_id=user, tag="b") == [ids[1]]
    assert list_ids(door, user_id=user, tag="b", name="Parcel") == list_ids(door, user_id=name("u"), tag=tag) == []
    assert list_ids(door, user_id=user, tag="") == list_ids(door, user_id=user, name="") == []
    assert ids[1] in list_ids(door, team="with-tool", limit=200)
    assert ids[0] not in list_ids(door, team="with-tool", limit=200)


def test_a_sessions_runs_are_listed_newest_first(door: Door) -> None:
    """Page by page, and none of another session."""
    run = new(door)
    runs = [run["id"]] + [door.enqueue(session_id=run["session_id"], user_id=run["user_id"])["id"] for _ in range(2)]
    new(door, user_id=run["user_id"])
    path, params = f"/v1/sessions/{run['session_id']}/runs", {"user_id": run["user_id"], "limit": 2}

    first = door.http.get(path, params=params).json()
    second = door.http.get(path, params=params | {"cursor": first["next_cursor"]}).json()

    assert [one["id"] for one in first["data"] + second["data"]] == runs[::-1]
    assert second["next_cursor"] is None
    assert second["data"] == [run]


def test_a_service_key_gets_the_only_match(door: Door) -> None:
    """A session that two users have is read, changed and deleted for a named user only."""
    shared, ada, bob = name("s"), name("u"), name("u")
    path = f"/v1/sessions/{shared}"
    new(door, user_id=ada, session_id=shared)
    assert [door.http.request(m, path, json={}).status_code for m in ("GET", "PATCH")] == [200, 200]
    new(door, user_id=bob, session_id=shared)

    for method, below in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/messages"), ("GET", "/runs")]:
        body = {"json": {"name": "x"}} if method == "PATCH" else {}
        check_problem(door.http.request(method, path + below, **body), status=409, code="ambiguous_session")

    assert door.http.delete(path, params={"user_id": ada}).status_code == 204
    assert door.http.get(path).json()["user_id"] == bob
    assert door.http.get(path).json()["name"] is None
    assert door.http.delete(path).status_code == 204
    check_problem(door.http.delete(path), status=404, code="session_not_found")


def test_a_deleted_session_leaves_nothing(door: Door) -> None:
    """Its messages, runs, keys and streams are gone, for everyone; its id opens a new session."""
    before, key = door.rows(), {"Idempotency-Key": name("k")}
    order = {"team": "with-tool", "input": "[steps=1] go", "session_id": name("s"), "user_id": name("u")}
    run = door.ended(door.http.post("/v1/runs", json=order, headers=key).json()["id"])
    path = f"/v1/sessions/{run['session_id']}"
    assert door.redis.xlen(f"run:{run['id']}:events") > 1

    answer = door.http.delete(path)

    assert (answer.status_code, answer.content) == (204, b"")
    assert door.rows() == before
    assert [fields["type"] for _, fields in door.redis.xrange(f"run:{run['id']}:events")] == ["run.erased"]
    for below in ("", "/messages", "/runs"):
        check_problem(door.http.get(path + below), status=404, code="session_not_found")
    check_problem(door.http.get(f"/v1/runs/{run['id']}/events"), status=404, code="run_not_found")
    again = door.http.post("/v1/runs", json=order, headers=key).json()
    assert (again["id"] != run["id"], again["position"]) == (True, 1)
    assert len(door.messages(door.ended(again["id"]))) == 4


def test_deleting_ends_the_run_that_goes_on(door: Door) -> None:
    """Who watches it is let go without an end; its worker writes nothing any more, and takes the next run."""
    run = door.enqueue("[steps=3] [pace=0.3] go", team="with-tool", user_id=name("u"), session_id=name("s"))
    behind = door.enqueue(user_id=run["user_id"], session_id=run["session_id"], team="with-tool")
    with door.http.stream("GET", f"/v1/runs/{run['id']}/events") as answer:
        lines = answer.iter_text()
        seen = next(lines)
        while "message.completed" not in seen:
            seen += next(lines)

        deleted = door.http.delete(f"/v1/sessions/{run['session_id']}", params={"user_id": run["user_id"]})
        seen += "".join(lines)

    assert deleted.status_code == 204
    assert not {"run.completed", "run.failed", "run.cancelled"} & {event.type for event in read_events(seen)}
    for run_id in (run["id"], behind["id"]):
        check_problem(door.http.get(f"/v1/runs/{run_id}"), status=404, code="run_not_found")
    after = new(door, user_id=run["user_id"], session_id=run["session_id"])
    assert [m["run_id"] for m in door.messages(after)] == [after["id"]] * 2


@pytest.mark.parametrize("id", ["a/b", "a%2Fb", "/", "100%", "a?b#c&d=e", "ä ö\u3000/", "a/messages", "%", "...", "+"])
def test_a_session_of_any_id_is_found_by_its_path(door: Door, id: str) -> None:
    """Percent-encoded, as any part of a path: a slash in it separates nothing."""
    user, path = name("u"), f"/v1/sessions/{quote(id, safe='')}"
    run = new(door, user_id=user, session_id=id)
    params = {"params": {"user_id": user}}

    assert door.http.patch(path, **params, json={"name": "found"}).json()["id"] == id
    assert door.http.get(path, **params).json()["name"] == "found"
    assert [one["id"] for one in door.http.get(f"{path}/runs", **params).json()["data"]] == [run["id"]]
    with Client(door.system.url, door.system.key) as client:
        assert [m["run_id"] for m in client.messages(id, user_id=user)] == [run["id"]] * 2
    assert door.http.delete(path, **params).status_code == 204
    problem = check_problem(door.http.get(path, **params), status=404, code="session_not_found")
    assert repr(id) in problem["detail"]


@pytest.mark.parametrize("away", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_session_is_deleted_while_redis_is_away(tmp_path: Path, database_url: str, away: int) -> None:
    """It is gone from the database at once; a stream that cannot be reached ends with its lifetime."""
    valkey = ValkeyServer()
    with system(tmp_path, database_url=database_url, redis_url=valkey.url) as running:
        running.start_api()
        run = accept(running.db).run
        os.kill(valkey.pid, away)

        key = {"Authorization": f"Bearer {running.key}"}
        answers = [httpx2.delete(f"{running.url}/v1/sessions/s", headers=key, timeout=120) for _ in range(2)]

        if away == signal.SIGSTOP:
            os.kill(valkey.pid, signal.SIGCONT)
        assert [answer.status_code for answer in answers] == [204, 404]
        wait_until(lambda: "streams were not erased" in running.log("api"), description="the log says so")
        assert httpx2.get(f"{running.url}/v1/runs/{run.id}", headers=key, timeout=60).status_code == 404
    valkey.close()
