"""A usual request takes a shorter way than FastAPI's general one. Both give the same answer."""

from typing import Any

import pytest
from fastapi.routing import APIRoute

from api_stub.app import make_app
from api_stub.arguments import Arguments, UnusualRequest
from api_stub.json_route import JsonRoute
from tests.api.door import Door, check_problem, name
from worker.settings import Settings

UNUSUAL = {"Content-Type": "application/json; charset=utf-8"}  # FastAPI's way reads such a body
LONG_WAY = {  # a turn at a session depends on its id, so FastAPI has to resolve it
    "change_session",
    "delete_session",
    "refresh_summary",
    "cancel_run",
    "retry_run",
    "continue_run",
}


def test_which_routes_have_the_short_way(tmp_path: Any) -> None:
    """All that answer with JSON, except those that write under the lock of the session in their path."""
    routes = [route for router in make_app(Settings(data_dir=tmp_path)).routes for route in _routes_of(router)]
    long_way = {route.name for route in routes if isinstance(route, JsonRoute) and not _is_usual(route)}

    assert len([route for route in routes if isinstance(route, JsonRoute)]) > len(LONG_WAY)
    assert long_way == LONG_WAY


def _routes_of(route: Any) -> list[APIRoute]:
    inner = getattr(getattr(route, "original_router", None), "routes", [route])
    return [one for one in inner if isinstance(one, APIRoute)]


def _is_usual(route: JsonRoute) -> bool:
    try:
        Arguments(route.dependant)
    except UnusualRequest:
        return False
    return True


def test_a_run_is_accepted_the_same_way(door: Door) -> None:
    """The same key finds the same run on both ways, with the same headers."""
    body = {"team": "plain", "input": "Grüße", "user_id": name("u"), "metadata": {"a": [1, None]}}
    headers = {"Idempotency-Key": name("k")}

    usual = door.http.post("/v1/runs", json=body, headers=headers)
    unusual = door.http.post("/v1/runs", json=body, headers=headers | UNUSUAL)

    assert (usual.status_code, unusual.status_code) == (202, 202), unusual.text
    accepted = ("id", "session_id", "user_id", "position", "input", "metadata", "created_at")
    first, second = usual.json(), unusual.json()
    assert first.keys() == second.keys()
    assert [first[field] for field in accepted] == [second[field] for field in accepted]
    assert usual.headers["location"] == unusual.headers["location"] == f"/v1/runs/{usual.json()['id']}"
    assert usual.headers["content-type"] == unusual.headers["content-type"] == "application/json"
    assert usual.headers["content-length"] == str(len(usual.content))


@pytest.mark.parametrize("headers", [{}, UNUSUAL])
def test_a_mistake_is_told_the_same_way(door: Door, headers: dict[str, str]) -> None:
    """All fields that are wrong are named, whichever way has read the request first."""
    answer = door.http.post("/v1/runs", json={"input": 5, "timeout_s": "x", "more": 1}, headers=headers)

    check_problem(answer, status=422, code="invalid_request")
    assert all(field in answer.json()["detail"] for field in ("team", "input", "timeout_s", "more"))


def test_a_key_is_asked_for_before_mistakes_are_told(door: Door) -> None:
    """Who has no key learns nothing of what the route takes."""
    wrong = {"limit": "none", "mystery": "1"}

    for mistake in (wrong, {"user_id": "\0"}):
        without_key = door.http.get("/v1/sessions", params=mistake, headers={"Authorization": ""})
        check_problem(without_key, status=401, code="key_missing")
    check_problem(door.http.get("/v1/sessions", params=wrong), status=422, code="unknown_parameter")
    check_problem(door.http.get("/v1/sessions", params={"limit": "none"}), status=422, code="invalid_request")


def test_of_a_parameter_that_is_sent_twice_the_last_counts(door: Door) -> None:
    """As FastAPI reads it."""
    user = name("u")
    made = door.enqueue(user_id=user)["id"]

    answer = door.http.get(f"/v1/runs?user_id={name('u')}&user_id={user}&limit=5&limit=1")

    assert [run["id"] for run in answer.json()["data"]] == [made]
