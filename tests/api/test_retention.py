"""What callers meet of runs and sessions that have reached the end of their lifetime."""

from tests.api.door import Door, check_problem, name
from tests.support.ageing import age, remove


def test_a_run_that_has_gone_is_not_there_and_is_not_made_again(door: Door) -> None:
    """Nor its events, however long its stream would have lasted. Its session goes on, with its counts."""
    user, session, key = name("user"), name("session"), name("key")
    order = {"team": "plain", "input": "hello", "user_id": user, "session_id": session}
    headers = {"Idempotency-Key": key}
    run = door.http.post("/v1/runs", json=order, headers=headers).json()
    door.ended(run["id"])
    age(door.system.db, session=session, days=40)
    assert remove(door.system.db, keep_runs_days=30).runs == 1

    for path in ("", "/events", "/why"):
        check_problem(door.http.get(f"/v1/runs/{run['id']}{path}"), status=404, code="run_not_found")
    check_problem(door.http.post(f"/v1/runs/{run['id']}/retry"), status=404, code="run_not_found")
    again = door.http.post("/v1/runs", json=order, headers=headers)
    check_problem(again, status=409, code="run_gone")
    assert door.http.get("/v1/runs", params={"idempotency_key": key}).json()["data"] == []
    after = door.http.get(f"/v1/sessions/{session}", params={"user_id": user}).json()
    assert (after["run_count"], after["message_count"]) == (1, 2)
    next_run = door.ended(door.enqueue(user_id=user, session_id=session)["id"])
    assert (next_run["position"], [m["seq"] for m in door.messages(next_run)]) == (2, [3, 4])


def test_a_session_that_has_gone_is_not_there(door: Door) -> None:
    """As if it had been deleted; the same id begins a new one."""
    user, session = name("user"), name("session")
    run = door.ended(door.enqueue(user_id=user, session_id=session)["id"])
    age(door.system.db, session=session, days=40)
    assert remove(door.system.db, keep_sessions_days=30).sessions == 1

    gone = door.http.get(f"/v1/sessions/{session}", params={"user_id": user})
    check_problem(gone, status=404, code="session_not_found")
    check_problem(door.http.get(f"/v1/runs/{run['id']}"), status=404, code="run_not_found")
    assert door.ended(door.enqueue(user_id=user, session_id=session)["id"])["position"] == 1
