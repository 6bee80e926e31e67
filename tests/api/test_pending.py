"""Pending calls over HTTP: who sees them, who may decide, and what becomes of wrong decisions."""

import json
from typing import Any

import pytest

from api_stub.client import Client
from tests.api.door import Door, check_problem, name, read_events
from worker.domain import Scope


def paused(door: Door, *calls: tuple[str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Return a run that waits for decisions about these calls."""
    marks = " ".join(f"[call={tool} {json.dumps(arguments)}]" for tool, arguments in calls)
    run = door.enqueue(marks, team="waits", **fields)
    answer = door.run(run["id"], wait=60)
    assert answer["status"] == "paused", answer
    return answer


def decide(door: Door, run: dict[str, Any], *decisions: dict[str, Any], **fields: Any) -> Any:
    return door.http.post(f"/v1/runs/{run['id']}/continue", json={"decisions": list(decisions), **fields})


def test_a_run_waits_and_goes_on_with_what_is_decided(door: Door) -> None:
    """The run shows what waits; decisions are recorded with the key and the person; the answer comes."""
    calls = [("pay", {"eur": 5}), ("ship", {"order": "7"}), ("measure", {"what": "x"}), ("look_up", {})]
    run = paused(door, *calls, session_id=name("s"), user_id=name("u"))
    waiting = {call["kind"]: call for call in run["pending"]}

    assert list(waiting) == ["confirmation", "input", "external"]
    assert json.loads(waiting["confirmation"]["arguments"]) == {"eur": 5}
    assert waiting["input"]["fields"] == list(waiting["input"]["schema"]["properties"]) == ["address"]
    assert {call["id"].startswith(run["id"]) for call in run["pending"]} == {True}
    assert (run["finished_at"], run["output"]) == (None, None)
    listed = door.http.get("/v1/runs", params={"status": "paused", "session_id": run["session_id"]}).json()["data"]
    assert [one["pending"] for one in listed] == [run["pending"]]
    why = door.http.get(f"/v1/runs/{run['id']}/why").json()
    assert (why["reason"], why["calls"]) == ("paused", 3)
    yes = {"id": waiting["confirmation"]["id"], "action": "approve", "arguments": {"eur": 3}}
    answer = decide(door, run, yes, approver="ada")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    again = door.run(run["id"], wait=60)
    assert [call["kind"] for call in again["pending"]] == ["input", "external"]
    given = {"id": waiting["input"]["id"], "action": "answer", "arguments": {"address": "Rome"}}
    result = {"id": waiting["external"]["id"], "action": "answer", "result": "3 m"}
    assert decide(door, run, given, result).status_code == 202

    assert door.ended(run["id"])["status"] == "completed"
    texts = [message["content"] for message in door.messages(run) if message["role"] == "tool"]
    assert '(It was called with other arguments: {"eur": 3}) paid 3' in texts
    assert {"shipped 7 to Rome", "3 m"} <= set(texts)
    decided = door.http.get(f"/v1/runs/{run['id']}/decisions").json()["data"]
    assert [call["decision"] for call in decided] == ["approve", "answer", "answer"]
    assert (decided[0]["approver"], decided[1]["approver"]) == ("ada", None)
    assert all(call["key_id"] and call["decided_at"] for call in decided)


def test_a_stream_says_that_the_run_waits_and_goes_on(door: Door) -> None:
    """It stays open over the pause; a reader who comes back after it is not shown it again."""
    run = paused(door, ("pay", {"eur": 1}))
    with Client(door.system.url, door.system.key) as client:
        seen: list[Any] = []
        for event in client.stream(run["id"]):
            seen.append(event)
            if event.type == "run.paused":
                client.continue_run(run["id"], [{"id": event.data["pending"][0], "action": "approve"}])
        assert client.wait(run["id"])["status"] == "completed"
        assert [call["decision"] for call in client.decisions(run["id"])["data"]] == ["approve"]

    types = [event.type for event in seen]
    assert types.count("run.paused") == types.count("tool_call.pending") == 1
    assert types[-1] == "run.completed"
    at = next(event.id for event in seen if event.type == "run.paused")
    text = door.http.get(f"/v1/runs/{run['id']}/events", headers={"Last-Event-ID": at}).text
    later = [event.type for event in read_events(text)]
    assert later[0] == "run.started"
    assert later[-1] == "run.completed"


def test_a_stream_that_redis_lost_has_the_pause_from_the_row(door: Door) -> None:
    """As it has the end."""
    run = paused(door, ("pay", {"eur": 1}))
    door.redis.flushall()

    with Client(door.system.url, door.system.key) as client:
        types = []
        for event in client.stream(run["id"]):
            types.append(event.type)
            if event.type == "run.paused":
                client.cancel(run["id"])

    assert types[-3:] == ["run.paused", "message.completed", "run.cancelled"]


def test_a_list_has_what_a_key_may_see(door: Door) -> None:
    """By user, team, kind and run, oldest first, page by page."""
    user = name("u")
    runs = [paused(door, ("pay", {"eur": n}), ("measure", {"what": "x"}), user_id=user) for n in (1, 2)]
    with Client(door.system.url, door.system.key) as client:
        assert [call["run_id"] for call in client.pending(user_id=user, kind="external")] == [r["id"] for r in runs]
        assert len(list(client.pending(run_id=runs[0]["id"]))) == 2
        assert list(client.pending(user_id=name("u"))) == []
    first = door.http.get("/v1/pending", params={"user_id": user, "limit": 3}).json()
    rest = door.http.get("/v1/pending", params={"user_id": user, "cursor": first["next_cursor"]}).json()
    assert [len(first["data"]), len(rest["data"]), rest["next_cursor"]] == [3, 1, None]
    with door.with_key(door.new_key(user_id=user)) as own, door.with_key(door.new_key(user_id=name("u"))) as other:
        assert len(own.get("/v1/pending").json()["data"]) == 4
        assert other.get("/v1/pending").json()["data"] == []
        check_problem(own.get("/v1/pending", params={"user_id": "else"}), status=403, code="user_forbidden")
        for run in runs:
            door.cancel(run["id"])
        assert own.get("/v1/pending").json()["data"] == []


def test_only_an_operator_decides_about_an_operators_call(door: Door) -> None:
    """No key has the scope by default, and no user's key can have it. Nothing is written."""
    user = name("u")
    run = paused(door, ("refund", {"eur": 5}), user_id=user)
    yes = {"decisions": [{"id": run["pending"][0]["id"], "action": "approve"}]}
    scopes = frozenset({Scope.RUNS_WRITE, Scope.RUNS_READ, Scope.APPROVALS})
    keys = [door.new_key(user_id=user), door.new_key(user_id=user, scopes=scopes), door.new_key()]

    for key in keys:
        with door.with_key(key) as http:
            answer = http.post(f"/v1/runs/{run['id']}/continue", json=yes)
        check_problem(answer, status=403, code="approver_needed")
    assert door.run(run["id"])["pending"] == run["pending"]
    with door.with_key(door.new_key(scopes=scopes)) as operator:
        assert operator.post(f"/v1/runs/{run['id']}/continue", json=yes).status_code == 202
    assert door.ended(run["id"])["status"] == "completed"


def test_wrong_decisions_are_refused_and_change_nothing(door: Door) -> None:
    """Of another user, of another run, forged, too large, twice, or about an ended run."""
    user = name("u")
    run, other = (paused(door, ("pay", {"eur": 5}), user_id=user) for _ in range(2))
    id = run["pending"][0]["id"]
    yes = {"id": id, "action": "approve"}
    with door.with_key(door.new_key(user_id=name("u"))) as stranger:
        answer = stranger.post(f"/v1/runs/{run['id']}/continue", json={"decisions": [yes]})
        listed = stranger.get(f"/v1/runs/{run['id']}/decisions")
    check_problem(answer, status=404, code="run_not_found")
    check_problem(listed, status=404, code="run_not_found")
    check_problem(decide(door, other, yes), status=404, code="pending_not_found")
    check_problem(decide(door, run, {"id": "run_1.2.3", "action": "approve"}), status=404, code="pending_not_found")
    for wrong in ({"arguments": {"eur": "x"}}, {"result": "x"}, {"note": "\x00"}, {"arguments": {"eur": 1, "more": 2}}):
        check_problem(decide(door, run, yes | wrong), status=422, code="decision_invalid")
    assert decide(door, run, yes | {"arguments": {"eur": "x" * 1_100_000}}).status_code in (413, 422)
    check_problem(decide(door, run, yes, yes | {"action": "reject"}), status=422, code="decision_invalid")
    check_problem(decide(door, run, yes, approver="a\x00b"), status=422, code="invalid_text")
    check_problem(decide(door, run, yes, approver="a" * 300), status=422, code="invalid_identifier")
    unknown = check_problem(decide(door, run, yes | {"id": "x" * 9_000}), status=404, code="pending_not_found")
    assert len(unknown["detail"]) < 1_000
    answer = door.http.get("/v1/pending", params={"run_id": "a\x00b"})
    check_problem(answer, status=422, code="invalid_text")
    for body in ({}, {"decisions": []}, {"decisions": [yes], "else": 1}, {"decisions": [yes | {"action": "maybe"}]}):
        assert door.http.post(f"/v1/runs/{run['id']}/continue", json=body).status_code == 422
    assert door.run(run["id"])["pending"] == run["pending"]
    assert decide(door, run, yes).status_code == 202
    assert decide(door, run, yes).status_code == 202  # a double click
    check_problem(decide(door, run, {"id": id, "action": "reject"}), status=409, code="already_decided")
    assert door.cancel(other["id"])["status"] == "cancelled"
    check_problem(
        decide(door, other, {"id": other["pending"][0]["id"], "action": "approve"}), status=409, code="run_not_paused"
    )


@pytest.mark.parametrize("scopes", [{Scope.RUNS_READ}, {Scope.RUNS_WRITE}])
def test_scopes_apply(door: Door, scopes: set[Scope]) -> None:
    """Reading needs runs:read, deciding runs:write."""
    run = paused(door, ("pay", {"eur": 5}))
    can_read, can_write = Scope.RUNS_READ in scopes, Scope.RUNS_WRITE in scopes
    decision = {"decisions": [{"id": run["pending"][0]["id"], "action": "reject"}]}

    with door.with_key(door.new_key(scopes=frozenset(scopes))) as http:
        assert (http.get("/v1/pending").status_code == 200) is can_read
        assert (http.get(f"/v1/runs/{run['id']}/decisions").status_code == 200) is can_read
        answer = http.post(f"/v1/runs/{run['id']}/continue", json=decision)
    assert (answer.status_code == 202) is can_write
    assert "pending" not in answer.json()
    door.cancel(run["id"])
