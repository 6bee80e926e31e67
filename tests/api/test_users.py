"""Everything of one user: written out, and erased so that nothing is left."""

import json
import subprocess
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select

from tests.api.door import SECRET, Door, check_problem, name
from tests.support.system import PROGRAM, wait_until
from worker.store import tables
from worker.store.columns import db_time


def path(user: str) -> str:
    return "/v1/users/" + quote(user, safe="")


def exported(door: Door, user: str) -> list[dict[str, Any]]:
    """Return what is written out of a user."""
    answer = door.http.get(f"{path(user)}/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jsonl"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def left(door: Door, *traces: str) -> list[str]:
    """Return the rows of any table in which one of *traces* stands."""
    found = []
    with door.system.db.read() as tx:
        for table in tables.metadata.sorted_tables:
            for row in tx.execute(select(table)):
                shown = repr(tuple(row))
                found += [f"{table.name}: {shown}" for trace in traces if trace in shown]
    return found


def lives(door: Door, user: str) -> list[dict[str, Any]]:
    """Give a user two sessions with runs, tools, a summary, a name, keys, and a run that was refused by nobody."""
    runs = [
        door.enqueue(f"{SECRET} [steps=1]", team="with-tool", user_id=user, session_id="s", metadata={"of": user}),
        door.enqueue(SECRET, user_id=user, session_id="t"),
    ]
    ended = [door.ended(run["id"]) for run in runs]
    assert [run["status"] for run in ended] == ["completed"] * 2
    answer = door.http.patch("/v1/sessions/s", params={"user_id": user}, json={"name": f"name of {user}"})
    assert answer.status_code == 200
    with door.system.db.write() as tx:
        pk = tx.execute(select(tables.runs.c.session_pk).where(tables.runs.c.id == runs[0]["id"])).scalar_one()
        zeros = dict.fromkeys(("model_calls", "input_tokens", "cached_input_tokens", "output_tokens"), 0)
        row = {"session_pk": pk, "version": 1, "covers_through_seq": 2, "text": f"summary of {user}", "topics": [user]}
        made = {"model": "m", "prompt_hash": "h", "created_at": db_time()} | zeros
        tx.execute(tables.summaries.insert().values(**row, **made))
        job = {"session_pk": pk, "through_seq": 2, "fence": 0, "failures": 0, "requested_at": db_time()}
        tx.execute(tables.summary_jobs.insert().values(**job))
        start = {"idempotency_key": f"{runs[0]['id']}:2:0", "run_id": runs[0]["id"], "started_at": db_time()}
        tx.execute(tables.tool_starts.insert().values(**start))
    headers = {"Idempotency-Key": f"key of {quote(user)}"}
    body = {"team": "plain", "input": SECRET, "user_id": user, "session_id": "t"}
    last = door.http.post("/v1/runs", json=body, headers=headers).json()
    return [*ended, door.ended(last["id"])]


@pytest.mark.parametrize("user", ["u", "u/7 ä?%2F#"])
def test_everything_of_a_user_is_written_out_and_erased(door: Door, user: str) -> None:
    """Sessions, runs, messages, summaries; afterwards no row and no stream is left, and others keep theirs."""
    user, other = name(user), name("other")
    runs = lives(door, user)
    kept = door.ended(door.enqueue(SECRET, user_id=other)["id"])
    key = door.new_key(user_id=user)
    streams = [k for run in runs for k in door.redis.scan_iter(f"*{run['id']}*")]
    assert len(streams) == 3

    lines = exported(door, user)
    answer = door.http.delete(path(user))

    kinds = [line["type"] for line in lines]
    of_sessions = {"session": 2, "run": 3, "message": 8, "summary": 1}
    assert {kind: kinds.count(kind) for kind in kinds} == of_sessions | {"idempotency_key": 1, "api_key": 1}
    said = [line["content"] for line in lines if line["type"] == "message"]
    assert sum(SECRET in words for words in said) == 3
    assert {line["output"] for line in lines if line["type"] == "run"} == {run["output"] for run in runs}
    told = json.dumps(lines, ensure_ascii=False)
    assert f"name of {user}" in told
    assert f"summary of {user}" in told
    assert answer.status_code == 200, answer.text
    counts = {"sessions": 2, "runs": 3, "messages": 8, "summaries": 1, "streams": 3, "api_keys": 1}
    assert answer.json() == counts
    assert left(door, user, *(run["id"] for run in runs)) == []
    assert all(not _texts(door, k) for k in streams)
    assert exported(door, user) == []
    assert door.http.delete(path(user)).json() == dict.fromkeys(counts, 0)
    assert door.run(kept["id"]) == kept
    wait_until(lambda: _status(door, key) == 401, description="the user's key has ended")


def _texts(door: Door, stream: str) -> list[Any]:
    return [data for _id, data in door.redis.xrange(stream) if data["data"] != "{}"]


def _status(door: Door, key: str) -> int:
    with door.with_key(key) as http:
        return http.get("/v1/runs").status_code


def test_a_run_in_flight_ends_and_brings_nothing_back(door: Door) -> None:
    """Its worker finds nothing to write to; those behind it are gone, and the worker goes on."""
    user = name("u")
    running = door.enqueue(f"{SECRET} [words=200] [pace=0.02]", user_id=user, session_id="s")
    behind = door.enqueue(SECRET, user_id=user, session_id="s")
    door.until(running["id"], "running")

    erased = door.http.delete(path(user)).json()
    wait_until(lambda: _is_done(door, running["id"]), description="its worker has given it up")

    assert (erased["sessions"], erased["runs"]) == (1, 2)
    assert left(door, user, running["id"], behind["id"]) == []
    for run in (running, behind):
        assert door.http.get(f"/v1/runs/{run['id']}").status_code == 404
        assert all(not _texts(door, k) for k in door.redis.scan_iter(f"*{run['id']}*"))
    assert door.ended(door.enqueue("hello", user_id=user, session_id="s")["id"])["position"] == 1


def _is_done(door: Door, run_id: str) -> bool:
    said = [line for line in door.system.log("worker-1").splitlines() if run_id in line]
    return any("lease lost" in line for line in said)


def test_a_key_of_teams_touches_only_those(door: Door) -> None:
    """What the user has with other teams stays, and so do their keys."""
    user = name("u")
    lives(door, user)
    bound = door.new_key(user_id=user)

    with door.with_key(door.new_key(teams=frozenset({"with-tool"}))) as http:
        lines = [json.loads(line) for line in http.get(f"{path(user)}/export").text.splitlines()]
        erased = http.delete(path(user)).json()

    assert {line["team"] for line in lines if line["type"] == "session"} == {"with-tool"}
    assert (erased["sessions"], erased["runs"], erased["api_keys"]) == (1, 1, 0)
    assert [line["team"] for line in exported(door, user) if line["type"] == "session"] == ["plain"]
    assert _status(door, bound) == 200
    assert door.http.get("/v1/runs", params={"idempotency_key": f"key of {quote(user)}"}).json()["data"]


def test_a_user_is_asked_for_by_themselves_only(door: Door) -> None:
    """A key of another user is refused; one's own key reads and erases; no id is everybody's."""
    user, other = name("u"), name("other")
    door.ended(door.enqueue("hello", user_id=user)["id"])

    with door.with_key(door.new_key(user_id=other)) as http:
        check_problem(http.get(f"{path(user)}/export"), status=403, code="user_forbidden")
        check_problem(http.delete(path(user)), status=403, code="user_forbidden")
    with door.with_key(door.new_key(user_id=user, scopes=frozenset({"sessions:read"}))) as http:
        assert len(http.get(f"{path(user)}/export").text.splitlines()) == 5, "the key that asks is the user's too"
        check_problem(http.delete(path(user)), status=403, code="scope_missing")
    check_problem(door.http.delete("/v1/users/"), status=404, code="route_not_found")
    check_problem(door.http.get("/v1/users//export"), status=404, code="route_not_found")
    with door.with_key(door.new_key(user_id=user)) as http:
        assert http.delete(path(user)).json()["sessions"] == 1


def test_the_commands_do_the_same(door: Door) -> None:
    """`users export` prints JSON lines, `users erase` asks unless it is told not to."""
    user = name("u/")
    door.ended(door.enqueue("hello", user_id=user)["id"])
    environment = door.system.environment | {"TEAM_SESSIONS_URL": door.system.url, "TEAM_SESSIONS_KEY": door.system.key}

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*PROGRAM, "users", *arguments]
        return subprocess.run(command, env=environment, input="n\n", capture_output=True, text=True, timeout=60)

    lines = exported(door, user)
    written = command("export", user)
    asked = command("erase", user)
    assert len(exported(door, user)) == len(lines)
    erased = command("erase", user, "--yes")

    assert [json.loads(line) for line in written.stdout.splitlines()] == lines
    assert (asked.returncode, "Erase everything" in asked.stdout) == (1, True)
    assert (erased.returncode, erased.stdout.startswith("1 sessions, 1 runs, 2 messages")) == (0, True), erased
    assert exported(door, user) == []
