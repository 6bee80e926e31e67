"""Lists: what is in them, in which order, page by page."""

import re
from typing import Any

import pytest

from tests.api.door import Door, check_problem, name


def pages(door: Door, path: str, **asked: Any) -> list[list[dict[str, Any]]]:
    """Return the pages of a list, up to the last."""
    result: list[list[dict[str, Any]]] = []
    cursor: str | None = None
    while cursor is not None or not result:
        answer = door.http.get(path, params=asked | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"data", "next_cursor"}
        assert page["next_cursor"] is None or re.fullmatch("[A-Za-z0-9_-]+", page["next_cursor"])
        result.append(page["data"])
        cursor = page["next_cursor"]
    return result


def ids(door: Door, **asked: Any) -> list[str]:
    """Return the ids of the runs in a list."""
    return [run["id"] for page in pages(door, "/v1/runs", **asked) for run in page]


def test_runs_are_listed_newest_first(door: Door) -> None:
    """Each as it is found alone; the last page says that it is the last, be it full or not."""
    user = name("u")
    made = [door.ended(door.enqueue(user_id=user)["id"]) for _ in range(4)]

    result = pages(door, "/v1/runs", user_id=user, limit=2)

    assert result == [made[:1:-1], made[1::-1]]
    assert [len(page) for page in pages(door, "/v1/runs", user_id=user, limit=3)] == [3, 1]
    assert pages(door, "/v1/runs", user_id=name("u")) == [[]]


def test_a_run_that_is_accepted_meanwhile_disturbs_no_page(door: Door) -> None:
    """It stands in front of the first page."""
    user = name("u")
    made = [door.enqueue(user_id=user)["id"] for _ in range(3)]
    first = door.http.get("/v1/runs", params={"user_id": user, "limit": 2}).json()

    made.append(door.enqueue(user_id=user)["id"])
    second = door.http.get("/v1/runs", params={"user_id": user, "limit": 2, "cursor": first["next_cursor"]}).json()

    assert [run["id"] for run in first["data"] + second["data"]] == made[2::-1]
    assert ids(door, user_id=user) == made[::-1]


def test_runs_are_found_by_what_they_are_of(door: Door) -> None:
    """User, team, session and status, alone and together."""
    user, session = name("u"), name("s")
    plain = door.ended(door.enqueue(user_id=user, session_id=session)["id"])["id"]
    tool = door.ended(door.enqueue(user_id=user, team="with-tool")["id"])["id"]
    slow = door.enqueue("[delay=30] go", user_id=user, session_id=session)["id"]
    behind = door.enqueue(user_id=user, session_id=session)["id"]
    other = door.ended(door.enqueue(session_id=session, user_id=name("u"))["id"])["id"]
    door.until(slow, "running")

    assert ids(door, user_id=user, team="plain") == [behind, slow, plain]
    assert ids(door, user_id=user, team="with-tool") == [tool]
    assert ids(door, session_id=session) == [other, behind, slow, plain]
    assert ids(door, session_id=session, user_id=user, limit=1) == [behind, slow, plain]
    assert ids(door, session_id=session, limit=1) == [other, behind, slow, plain]
    assert ids(door, session_id=session, user_id=user, status="completed") == [plain]
    assert (ids(door, user_id=user, status="queued"), ids(door, user_id=user, status="running")) == ([behind], [slow])
    assert slow in ids(door, status="running")
    assert {tool, plain, other} <= set(ids(door, status="completed", limit=200))
    for run_id in (behind, slow):
        door.cancel(run_id)
    door.ended(slow)
    assert ids(door, user_id=user, status="cancelled", team="plain") == [behind, slow]


def test_a_run_is_found_by_its_idempotency_key(door: Door) -> None:
    """Of the acting user; a service key that names none finds every user's."""
    key, users = name("k"), (name("u"), name("u"))
    made = [
        door.http.post(
            "/v1/runs", json={"team": "plain", "input": "x", "user_id": user}, headers={"Idempotency-Key": key}
        ).json()["id"]
        for user in users
    ]

    assert ids(door, idempotency_key=key) == made[::-1]
    assert [ids(door, idempotency_key=key, user_id=user) for user in users] == [made[:1], made[1:]]
    assert ids(door, idempotency_key=key, user_id=name("u")) == ids(door, idempotency_key=name("k")) == []
    with door.with_key(door.new_key(user_id=users[0])) as http:
        result = http.get("/v1/runs", params={"idempotency_key": key}).json()["data"]
    assert [run["id"] for run in result] == made[:1]


def test_a_teams_key_lists_its_team_only(door: Door) -> None:
    """Naming another team is refused, whether or not anybody serves it."""
    user = name("u")
    plain, _ = door.enqueue(user_id=user)["id"], door.enqueue(user_id=user, team="with-tool")["id"]

    with door.with_key(door.new_key(teams=frozenset({"plain"}))) as http:
        result = http.get("/v1/runs", params={"user_id": user}).json()["data"]
        for team in ("with-tool", "nobody"):
            check_problem(http.get("/v1/runs", params={"team": team}), status=403, code="team_forbidden")

    assert [run["id"] for run in result] == [plain]


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_no_run_is_shown_twice_or_left_out(door: Door, limit: int) -> None:
    """Whatever the size of the pages."""
    session = name("s")
    made = [door.enqueue(session_id=session)["id"] for _ in range(5)]

    assert ids(door, session_id=session, limit=limit) == made[::-1]
    assert set(made) <= set(ids(door, team="plain", limit=200))
