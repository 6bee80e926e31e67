"""Batches over HTTP: ordered, watched, paused, resumed, tried again; their items and results. Real workers do them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.api.door import SECRET, Door, check_problem, name
from tests.support.system import wait_until

LONG_S = 120.0


def order(door: Door, kind: str, **fields: Any) -> dict[str, Any]:
    """Have a batch accepted and return it."""
    answer = door.http.post("/v1/batches", json={"kind": kind, **fields})
    assert answer.status_code == 202, answer.text
    batch = dict(answer.json())
    assert answer.headers["location"] == f"/v1/batches/{batch['id']}"
    return batch


def look(door: Door, batch: dict[str, Any]) -> dict[str, Any]:
    answer = door.http.get(f"/v1/batches/{batch['id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(door: Door, batch: dict[str, Any], status: str) -> dict[str, Any]:
    """Return a batch once it has a status, and nothing of it is in flight."""
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(look(door, batch))
        return found["status"] == status and not found["items"]["in_flight"]

    wait_until(reached, description=f"the batch is {status}", timeout_s=LONG_S)
    return found


def do(door: Door, batch: dict[str, Any], what: str, **body: Any) -> dict[str, Any]:
    """Pause, resume, cancel or retry a batch."""
    answer = door.http.post(f"/v1/batches/{batch['id']}/{what}", json=body or None)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def items(door: Door, batch: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = door.http.get(f"/v1/batches/{batch['id']}/items", params={"limit": 200, **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def results(door: Door, batch: dict[str, Any]) -> list[dict[str, Any]]:
    answer = door.http.get(f"/v1/batches/{batch['id']}/results")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@contextmanager
def marked(door: Door, marks: str) -> Iterator[None]:
    """Have marks hold for every model call of the block."""
    file = door.system.directory / "also"
    file.write_text(marks)
    yield
    file.unlink()


def hello(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Return orders of runs with the custom ids r1, r2, …."""
    return [{"custom_id": f"r{n}", "team": "plain", "input": f"I am A{n}.", **fields} for n in range(1, count + 1)]


@pytest.fixture(scope="module")
def door(batch_door: Door) -> Door:
    return batch_door


def test_runs_are_enqueued_and_told_item_by_item(door: Door) -> None:
    """Each is executed once, in the background; counts, usage and cost are those of its runs."""
    user = name("u")
    requests = hello(5, user_id=user)

    batch = order(door, "enqueue_runs", requests=requests, name="greetings", window=2)
    ended = until(door, batch, "completed")

    assert (batch["kind"], batch["name"], batch["window"], batch["items"]["planned"]) == (
        "enqueue_runs",
        "greetings",
        2,
        5,
    )
    counts = {"planned": 5, "waiting": 0, "in_flight": 0, "ended": 5, "completed": 5}
    assert ended["items"] == {**dict.fromkeys(ended["items"], 0), **counts}
    assert ended["finished_at"]
    found = items(door, batch)
    assert [(one["number"], one["custom_id"], one["status"]) for one in found] == [
        (n, f"r{n}", "completed") for n in range(1, 6)
    ]
    runs = [door.run(one["run_id"]) for one in found]
    assert [run["input"] for run in runs] == [one["input"] for one in requests]
    assert {(run["user_id"], run["session_id"]) for run in runs} == {(user, one["session_id"]) for one in found}
    used = {field: sum(run["usage"][field] for run in runs) for field in ended["usage"]}
    assert ended["usage"] == used
    assert ended["cost"] == pytest.approx((used["input_tokens"] * 1000 + used["output_tokens"] * 2000) / 1e6)
    assert [(r["custom_id"], r["old_output"], r["new_output"]) for r in results(door, batch)] == [
        (one["custom_id"], None, run["output"]) for one, run in zip(found, runs, strict=True)
    ]


def test_items_come_in_pages_and_by_status(door: Door) -> None:
    """Those that failed say why."""
    requests = [*hello(3), {"custom_id": "bad", "team": "plain", "input": "[fail=400] no"}]
    batch = order(door, "enqueue_runs", requests=requests)
    until(door, batch, "completed")
    path = f"/v1/batches/{batch['id']}/items"

    first = door.http.get(path, params={"limit": 3}).json()
    second = door.http.get(path, params={"limit": 3, "cursor": first["next_cursor"]}).json()
    failed = items(door, batch, status="failed")

    assert [one["custom_id"] for one in first["data"] + second["data"]] == ["r1", "r2", "r3", "bad"]
    assert second["next_cursor"] is None
    assert [(one["custom_id"], one["error"]["code"]) for one in failed] == [("bad", "model_refused")]
    assert all(one["error"] is None for one in first["data"])


def test_failed_runs_are_tried_again_by_a_filter(door: Door) -> None:
    """Those of one session's tag, found by the batch itself; each gets a new run at the end of its session."""
    user, tag = name("u"), name("t")
    with marked(door, "[fail=400]"):
        failed = [door.ended(door.enqueue(f"I am A{n}", user_id=user, session_id=f"s{n}")["id"]) for n in range(3)]
    for n in range(2):
        answer = door.http.patch(f"/v1/sessions/s{n}", params={"user_id": user}, json={"tags": [tag]})
        assert answer.status_code == 200

    batch = order(door, "retry_failed", select={"user_id": user, "tag": tag})
    ended = until(door, batch, "completed")

    assert batch["select"]["tag"] == tag
    assert (ended["items"]["planned"], ended["items"]["completed"]) == (2, 2)
    found = items(door, batch)
    assert [one["source_run_id"] for one in found] == [run["id"] for run in failed[:2]]
    assert [door.run(one["run_id"])["retry_of"] for one in found] == [run["id"] for run in failed[:2]]


def test_a_batch_tries_its_failed_items_again(door: Door) -> None:
    """Until they are done; each says how often it was begun."""
    with marked(door, "[fail=400]"):
        batch = order(door, "enqueue_runs", requests=hello(2))
        ended = until(door, batch, "completed")

    again = do(door, batch, "retry")
    done = until(door, batch, "completed")

    assert (ended["items"]["failed"], again["items"]["ended"], done["items"]["completed"]) == (2, 0, 2)
    assert [(one["tries"], one["status"]) for one in items(door, batch)] == [(2, "completed")] * 2


def test_summaries_are_refreshed(door: Door) -> None:
    """Of the sessions that are given by their ids; each item says which version it made."""
    user = name("u")
    for session in ("a", "b"):
        door.ended(door.enqueue("I am Ada", team="condensed", user_id=user, session_id=session)["id"])

    batch = order(door, "refresh_summaries", session_ids=["a", "b"], select={"user_id": user})
    until(door, batch, "completed")

    assert [(one["session_id"], one["user_id"], one["version"]) for one in items(door, batch)] == [
        ("a", user, 1),
        ("b", user, 1),
    ]
    for session in ("a", "b"):
        assert door.http.get(f"/v1/sessions/{session}/summary", params={"user_id": user}).json()["version"] == 1


def test_replays_are_compared(door: Door) -> None:
    """With the old and the new answer side by side, of runs given by their ids."""
    user = name("u")
    runs = [door.ended(door.enqueue(text, user_id=user)["id"]) for text in ("I am Ada", "[stamp] [words=1] go")]

    batch = order(door, "replay_runs", run_ids=[run["id"] for run in runs], select={"user_id": user})
    ended = until(door, batch, "completed")

    assert (ended["items"]["same"], ended["items"]["changed"]) == (1, 1)
    found = {line["source_run_id"]: line for line in results(door, batch)}
    assert [found[run["id"]]["old_output"] for run in runs] == [run["output"] for run in runs]
    assert [found[run["id"]]["status"] for run in runs] == ["same", "changed"]
    assert found[runs[0]["id"]]["new_output"] == runs[0]["output"]


def test_a_canary_waits_for_a_yes(door: Door) -> None:
    """So many items, then nothing more until it is resumed."""
    batch = order(door, "enqueue_runs", requests=hello(5), canary="40%")

    paused = until(door, batch, "paused")
    resumed = do(door, batch, "resume")
    ended = until(door, batch, "completed")

    assert (paused["paused_by"], paused["items"]["ended"], paused["items"]["waiting"]) == ("canary", 2, 3)
    assert (resumed["status"], resumed["paused_by"]) == ("running", None)
    assert ended["items"]["completed"] == 5


def test_a_budget_pauses_and_is_raised(door: Door) -> None:
    """Resuming without a higher one is refused, and says what to do."""
    batch = order(door, "enqueue_runs", requests=hello(3), budget={"tokens": 1})

    paused = until(door, batch, "paused")
    refused = door.http.post(f"/v1/batches/{batch['id']}/resume")
    do(door, batch, "resume", budget={"tokens": 1_000_000})
    ended = until(door, batch, "completed")

    assert (paused["paused_by"], paused["items"]["ended"]) == ("budget", 1)
    problem = check_problem(refused, status=422, code="batch_invalid")
    assert "name a higher one" in problem["detail"]
    assert (ended["items"]["completed"], ended["budget"]["tokens"]) == (3, 1_000_000)


def test_a_batch_is_paused_and_cancelled(door: Door) -> None:
    """Nothing is begun while it is paused; its run in flight is cancelled with it; a second time changes nothing."""
    batch = order(door, "enqueue_runs", requests=hello(3, input="[delay=600] go"), window=1)
    wait_until(lambda: look(door, batch)["items"]["in_flight"] == 1, description="one is in flight", timeout_s=LONG_S)

    paused = do(door, batch, "pause")
    cancelled = do(door, batch, "cancel")
    ended = until(door, batch, "cancelled")

    assert (paused["status"], paused["paused_by"], cancelled["status"]) == ("paused", "request", "cancelled")
    assert (ended["items"]["cancelled"], ended["items"]["waiting"]) == (1, 2)
    wait_until(lambda: look(door, batch)["finished_at"], description="it has ended")
    assert do(door, batch, "cancel")["status"] == "cancelled"
    for what in ("pause", "resume", "retry"):
        refused = door.http.post(f"/v1/batches/{batch['id']}/{what}")
        check_problem(refused, status=409, code="batch_conflict")


def test_items_are_given_in_chunks_that_can_be_sent_again(door: Door) -> None:
    """Nothing begins before the last chunk; one that was sent twice is there once; one too far ahead is refused."""
    requests = hello(6)
    batch = order(door, "enqueue_runs", requests=requests[:2], more=True)
    path = f"/v1/batches/{batch['id']}/items"
    middle, last = {"requests": requests[2:4], "more": True, "first": 3}, {"requests": requests[4:], "first": 5}

    ahead = door.http.post(path, json=last)
    twice = [door.http.post(path, json=middle).json() for _ in range(2)]
    closed = [door.http.post(path, json=last) for _ in range(2)]
    ended = until(door, batch, "completed")

    check_problem(ahead, status=409, code="batch_conflict")
    assert [(one["status"], one["items"]["planned"]) for one in twice] == [("created", 4)] * 2
    assert [one.status_code for one in closed] == [202, 202]
    assert ended["items"]["completed"] == 6
    assert [one["custom_id"] for one in items(door, batch)] == [f"r{n}" for n in range(1, 7)]
    check_problem(door.http.post(path, json={"requests": hello(1)}), status=409, code="batch_conflict")


def test_an_order_that_is_sent_twice_is_one_batch(door: Door) -> None:
    """Under its key; another order with the key is refused."""
    headers, body = {"Idempotency-Key": name("k")}, {"kind": "enqueue_runs", "requests": hello(1)}

    made = [door.http.post("/v1/batches", json=body, headers=headers) for _ in range(2)]
    other = door.http.post("/v1/batches", json={**body, "requests": hello(2)}, headers=headers)

    assert [one.status_code for one in made] == [202, 202]
    assert made[0].json()["id"] == made[1].json()["id"]
    check_problem(other, status=409, code="idempotency_conflict")
    until(door, made[0].json(), "completed")


def test_an_estimate_writes_nothing(door: Door) -> None:
    """How many, which first, how many tokens, and what they cost."""
    user = name("u")
    runs = [door.ended(door.enqueue("I am Ada", user_id=user)["id"]) for _ in range(3)]
    newest = door.http.get("/v1/batches", params={"limit": 1}).json()

    answer = door.http.post("/v1/batches", json={"kind": "replay_runs", "select": {"user_id": user}, "dry_run": True})

    used = {field: sum(run["usage"][field] for run in runs) for field in ("input_tokens", "output_tokens")}
    cost = (used["input_tokens"] * 1000 + used["output_tokens"] * 2000) / 1e6
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"count": 3, "sample": [run["id"] for run in runs], **used, "cost": pytest.approx(cost)}
    assert door.http.get("/v1/batches", params={"limit": 1}).json() == newest


def test_batches_are_listed_newest_first(door: Door) -> None:
    """Page by page; of the user that is named."""
    user = name("u")
    made = [order(door, "enqueue_runs", requests=[], select={"user_id": user})["id"] for _ in range(3)]

    first = door.http.get("/v1/batches", params={"user_id": user, "limit": 2}).json()
    second = door.http.get("/v1/batches", params={"user_id": user, "limit": 2, "cursor": first["next_cursor"]}).json()

    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert second["next_cursor"] is None


def test_a_users_batch_holds_nothing_of_others(door: Door) -> None:
    """Neither in its order nor among the items that follow, whoever sends them."""
    user, other = name("u"), name("u")
    mine, others = {"team": "plain", "input": "x"}, {"team": "plain", "input": SECRET, "user_id": other}
    named = {"kind": "enqueue_runs", "select": {"user_id": user}}
    batch = order(door, "enqueue_runs", select={"user_id": user}, requests=[mine], more=True)

    def refuse(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
        check_problem(http.post(path, json=body), status=403, code="user_forbidden")

    refuse(door.http, "/v1/batches", {**named, "requests": [others]})
    refuse(door.http, f"/v1/batches/{batch['id']}/items", {"requests": [others]})
    with door.with_key(door.new_key(user_id=user)) as http:
        refuse(http, "/v1/batches", {"kind": "enqueue_runs", "requests": [others]})
        refuse(http, f"/v1/batches/{batch['id']}/items", {"requests": [others]})
        assert http.post(f"/v1/batches/{batch['id']}/items", json={"requests": [mine]}).status_code == 202

    until(door, batch, "completed")
    assert [one["user_id"] for one in items(door, batch)] == [user, user]
