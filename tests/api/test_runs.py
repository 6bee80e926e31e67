"""A run as a resource: what it holds, who finds it again by its key, and how long one waits for it."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from tests.api.door import Door, check_problem, name
from worker.store import tables

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FIELDS = {
    *("id", "team", "session_id", "user_id", "status", "position", "attempt", "input", "output", "error", "usage"),
    *("retry_of", "metadata", "created_at", "started_at", "finished_at", "finish_reason", "team_version"),
    *("pending", "parsed"),
}


def runs_in(door: Door, session_id: str) -> int:
    """Return how many runs stand in all sessions of an id."""
    joined = tables.runs.join(tables.sessions)
    count = select(func.count()).select_from(joined).where(tables.sessions.c.session_id == session_id)
    with door.system.db.read() as tx:
        return int(tx.execute(count).scalar_one())


def send(door: Door, key: str, body: dict[str, Any]) -> Any:
    return door.http.post("/v1/runs", json=body, headers={"Idempotency-Key": key})


def test_a_run_has_the_fields_of_the_contract(door: Door) -> None:
    """From acceptance to its end: every field, times to the microsecond in UTC, and the place where to look."""
    user, session, metadata = name("u"), name("s"), {"ticket": {"n": 1.5, "tags": ["ä", None, True]}}
    body = {"team": "plain", "input": "My name is Émile. 🦉", "session_id": session, "user_id": user}

    answer = door.http.post("/v1/runs", json=body | {"metadata": metadata})
    queued = answer.json()
    ended = door.ended(queued["id"])

    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/runs/{queued['id']}")
    assert set(queued) == set(ended) == FIELDS
    same = {**body, "metadata": metadata, "position": 1, "error": None, "retry_of": None}
    assert {k: queued[k] for k in same} == {k: ended[k] for k in same} == same
    assert (queued["status"], queued["attempt"], queued["output"]) == ("queued", 0, None)
    assert (queued["started_at"], queued["finished_at"]) == (None, None)
    assert set(queued["usage"].values()) == {0}
    assert (ended["status"], ended["attempt"], ended["finish_reason"]) == ("completed", 1, "stop")
    assert ended["output"] == [m["content"] for m in door.messages(ended)][-1] != ""
    assert ended["usage"]["model_calls"] == 1
    assert set(ended["usage"]) == {"model_calls", "input_tokens", "cached_input_tokens", "output_tokens"}
    assert min(ended["usage"]["input_tokens"], ended["usage"]["output_tokens"]) > 0
    times = [ended["created_at"], ended["started_at"], ended["finished_at"]]
    assert queued["created_at"] == ended["created_at"]
    assert all(TIME.fullmatch(at) for at in times)
    assert times == sorted(times)
    assert abs(datetime.fromisoformat(times[0]).timestamp() - time.time()) < 60


def test_a_history_has_the_fields_of_the_contract(door: Door) -> None:
    """Messages in order, page by page, of all roles or of one."""
    run = door.ended(door.enqueue("[steps=1] go", team="with-tool", user_id=name("u"))["id"])
    asked = {"user_id": run["user_id"], "limit": 2}
    path = f"/v1/sessions/{run['session_id']}/messages"

    first = door.http.get(path, params=asked).json()
    second = door.http.get(path, params=asked | {"cursor": first["next_cursor"]}).json()
    tools = door.http.get(path, params=asked | {"role": "tool"}).json()

    history = first["data"] + second["data"]
    assert re.fullmatch("[A-Za-z0-9_.~-]+", first["next_cursor"])
    assert second["next_cursor"] is tools["next_cursor"] is None
    assert history == door.messages(run)
    fields = {"seq", "run_id", "role", "author", "delegation", "content", "tool_calls", "tool_call_id", "created_at"}
    assert all(set(m) == fields and m["run_id"] == run["id"] and TIME.fullmatch(m["created_at"]) for m in history)
    assert [(m["seq"], m["role"], m["author"]) for m in history] == [
        (1, "user", run["user_id"]),
        (2, "assistant", "with-tool"),
        (3, "tool", "look_up"),
        (4, "assistant", "with-tool"),
    ]
    call = {"id": history[2]["tool_call_id"], "name": "look_up", "arguments": "{}"}
    assert [m["tool_calls"] for m in history] == [[], [call], [], []]
    assert tools["data"] == history[2:3]


def test_a_session_without_a_name_gets_one(door: Door) -> None:
    """Runs that name no session do not share one."""
    one, other = door.enqueue(), door.enqueue()

    assert one["session_id"] != other["session_id"]
    assert (one["user_id"], one["position"], other["position"]) == ("", 1, 1)


def test_waiting_ends_with_the_run_and_not_before_its_time(door: Door) -> None:
    """A wait that is too short returns the run as it is; one that is long enough returns as the run ends."""
    run = door.enqueue("[delay=6] go")

    started = time.monotonic()
    unfinished = door.run(run["id"], wait=1.2)
    waited = time.monotonic() - started
    ended = door.run(run["id"], wait=60)
    late = datetime.now().timestamp() - datetime.fromisoformat(ended["finished_at"]).timestamp()
    started = time.monotonic()
    again = door.run(run["id"], wait=60)

    assert unfinished["status"] in ("queued", "running")
    assert waited > 1.1
    assert ended["status"] == "completed"
    assert late < 30
    assert again == ended
    assert time.monotonic() - started < 30


def test_the_same_key_finds_the_same_run(door: Door) -> None:
    """As often as it is sent, while the run goes on and after its end; another order under the key is refused."""
    key, session = name("k"), name("s")
    order = {"team": "plain", "input": "once", "session_id": session, "metadata": {"a": 1, "b": 2}}

    first = send(door, key, order)
    ended = door.ended(first.json()["id"])
    second = send(door, key, {**order, "metadata": {"b": 2, "a": 1}})

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == ended
    assert second.headers["location"] == first.headers["location"]
    before = door.rows()
    for other in ({"input": "twice"}, {"team": "with-tool"}, {"session_id": name("s")}, {"metadata": {}}):
        problem = check_problem(send(door, key, order | other), status=409, code="idempotency_conflict")
        assert ended["id"] not in problem["detail"]  # whoever has no key to see it is not told
    assert door.rows() == before
    assert runs_in(door, session) == 1


def test_a_key_need_not_be_text(door: Door) -> None:
    """A header is bytes, and any that HTTP takes are a key: here a lone surrogate in UTF-8."""
    headers = {"Idempotency-Key": name("k").encode() + b"\xed\xa0\x80"}

    answers = [door.http.post("/v1/runs", json={"team": "plain", "input": "x"}, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_a_key_belongs_to_a_user(door: Door) -> None:
    """Two users may choose the same key; neither sees the other's run."""
    key, session = name("k"), name("s")
    orders = [{"team": "plain", "input": "x", "session_id": session, "user_id": name("u")} for _ in range(2)]

    answers = [send(door, key, order).json() for order in orders + orders]

    assert [run["id"] for run in answers[2:]] == [run["id"] for run in answers[:2]]
    assert len({run["id"] for run in answers}) == runs_in(door, session) == 2


def test_sixteen_at_once_with_one_key_make_one_run(door: Door) -> None:
    """Whoever comes second waits for the first, and finds its run."""
    key, session = name("k"), name("s")
    order = {"team": "plain", "input": "x", "session_id": session}
    together = threading.Barrier(16)

    def once(_: int) -> Any:
        together.wait()
        return send(door, key, order)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(once, range(16)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == runs_in(door, session) == 1
    assert [m["role"] for m in door.messages(door.ended(answers[0].json()["id"]))] == ["user", "assistant"]


def test_a_run_brings_state_and_dependencies(door: Door) -> None:
    """They are stored with the run, no answer shows them, and the state is the session's when the run has begun."""
    user, session = name("u"), name("s")
    body = {"team": "plain", "input": "hello", "session_id": session, "user_id": user}
    options = {"session_state": {"city": "Rome"}, "dependencies": {"plan": "pro"}, "add_dependencies_to_context": True}

    run = door.http.post("/v1/runs", json=body | options).json()
    door.ended(run["id"])

    assert set(run) == FIELDS
    with door.system.db.read() as tx:
        of_session = tables.sessions.c.session_id == session
        assert tx.execute(select(tables.sessions.c.state).where(of_session)).scalar_one() == options["session_state"]
        assert tx.execute(select(tables.runs.c.options).where(tables.runs.c.id == run["id"])).scalar_one() == options


def test_options_that_are_no_objects_or_too_large_are_refused(door: Door) -> None:
    """As every other field of another type, and as metadata is."""
    for options in ({"session_state": "x"}, {"dependencies": [1]}, {"add_dependencies_to_context": "yes"}):
        answer = door.http.post("/v1/runs", json={"team": "plain", "input": "hello", **options})
        assert check_problem(answer, status=422, code="invalid_request")
    large = {"team": "plain", "input": "hello", "dependencies": {"x": "y" * 70_000}}
    assert check_problem(door.http.post("/v1/runs", json=large), status=413, code="value_too_large")
