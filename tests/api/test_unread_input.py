"""Input that the API would not read is refused, and the answer says what to send instead."""

from typing import Any

import pytest

from tests.api.door import Door, check_problem
from tests.api.test_bad_requests import MESSAGES, RUNS, Bad, ask, order

UNKNOWN = (422, "unknown_parameter")
REFUSED = {
    path: ask(path, *UNKNOWN)
    for path in (
        RUNS + "?state=failed",
        RUNS + "?status=failed&LIMIT=1",
        RUNS + "?%00=1",
        RUNS + "?state",
        "/v1/runs/{run}?wait_s=5",
        "/v1/runs/{run}/why?verbose=1",
        "/v1/sessions?user=ada",
        MESSAGES + "?order=desc",
        "/v1/teams?limit=5",
        "/v1/batches?status=paused",
        "/v1/users/u/export?format=csv",
        "/openapi.json?v=3",
    )
}
REFUSED |= {
    "to enqueue": Bad(*UNKNOWN, order(), path=RUNS + "?user_id=u"),
    "to erase": Bad(*UNKNOWN, method="DELETE", path="/v1/users/u?dry_run=1"),
    "of somebody without a key": ask(RUNS + "?state=failed", 401, "key_missing", headers={"Authorization": ""}),
}


@pytest.fixture(scope="package")
def ended_run(door: Door) -> dict[str, Any]:
    """A run that has ended."""
    return door.ended(door.enqueue()["id"])


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED)
def test_a_parameter_too_many_is_refused_and_nothing_happens(door: Door, ended_run: dict[str, Any], bad: Bad) -> None:
    """On every route that needs a key, and only after the key: strangers learn nothing of the routes."""
    before = door.rows()

    answer = bad.send(door.http, ended_run)

    check_problem(answer, status=bad.status, code=bad.code)
    assert door.rows() == before


def test_an_unknown_parameter_is_named_with_those_that_are_known(door: Door) -> None:
    """Else a misspelled filter would list everything."""
    filtered, bare = door.http.get("/v1/sessions?team=plain&user=ada"), door.http.get("/v1/teams?limit=5")

    known = "It has: team, user_id, name, tag, cursor, limit."
    assert filtered.json()["detail"] == f"This path has no query parameter 'user'. {known}"
    assert bare.json()["detail"] == "This path has no query parameter 'limit'. It has none."


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_probe_ignores_parameters(door: Door, path: str) -> None:
    """Load balancers and monitors add some, against caches."""
    assert door.http.get(f"{path}?nocache=1").status_code == 200


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "multipart/x", None])
@pytest.mark.parametrize("method_and_path", ["POST /v1/runs", "PATCH /v1/sessions/s", "POST /v1/batches"])
def test_a_body_without_the_content_type_of_json_is_told_to_send_it(
    door: Door, method_and_path: str, kind: str | None
) -> None:
    """`curl -d '{…}'` alone sends that of a form."""
    method, path = method_and_path.split()

    answer = door.http.request(method, path, content=b"{}", headers={} if kind is None else {"Content-Type": kind})

    problem = check_problem(answer, status=422, code="invalid_request")
    assert problem["detail"].endswith("Send Content-Type: application/json.")


def test_a_path_without_anything_says_how_all_paths_are_listed(door: Door) -> None:
    """A browser at `/docs` has no key, so the address of the list alone would lead it to a 401."""
    detail = door.http.get("/docs").json()["detail"]

    assert "Authorization: Bearer KEY" in detail
    assert "/openapi.json" in detail
