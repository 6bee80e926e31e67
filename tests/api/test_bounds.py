"""Bounds on queued runs: of a session, of a user, in all. What was accepted before is found whatever they say."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.system import System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.store import teams


@pytest.fixture
def api(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, valkey: ValkeyServer
) -> Iterator[tuple[System, httpx2.Client]]:
    """An API without workers, so that what is queued stays so, with the settings of the test."""
    settings = {f"TEAM_SESSIONS_MAX_QUEUED{bound}": str(limit) for bound, limit in request.param.items()}
    with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running:
        with running.db.write() as tx:
            teams.announce(tx, worker="gone", versions={"plain": "1"}, queues=["runs"])
        running.start_api()
        headers = {"Authorization": f"Bearer {running.key}"}
        with httpx2.Client(base_url=running.url, headers=headers, timeout=120) as http:
            yield running, http


def send(http: httpx2.Client, *, key: str | None = None, **fields: object) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return http.post("/v1/runs", json={"team": "plain", "input": "hello", **fields}, headers=headers)


def check_full(answer: httpx2.Response, code: str) -> None:
    """Assert that an answer says to come again later."""
    assert (answer.status_code, answer.json()["code"]) == (429, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["retry"] is True


@pytest.mark.parametrize("api", [{"_PER_SESSION": 2}], indirect=True)
def test_a_full_session_refuses_with_429(api: tuple[System, httpx2.Client]) -> None:
    """The head and two behind it; another session of the same user has room."""
    _running, http = api
    first = [send(http, key=f"k{n}", session_id="s", user_id="u").json() for n in range(3)]

    check_full(send(http, session_id="s", user_id="u"), "queue_full")

    assert send(http, key="k2", session_id="s", user_id="u").json()["id"] == first[2]["id"]
    assert send(http, session_id="t", user_id="u").status_code == 202


@pytest.mark.parametrize(
    ("api", "code", "user"), [({"_PER_USER": 3}, "queue_full", "u"), ({"": 3}, "queue_full", "v")], indirect=["api"]
)
def test_a_full_queue_refuses_with_429(api: tuple[System, httpx2.Client], code: str, user: str) -> None:
    """Of a user, or in all. A repeated key finds its run nevertheless, and a retry is bounded like any other run."""
    _running, http = api
    taken = [send(http, key=f"k{n}", user_id="u").json() for n in range(3)]

    check_full(send(http, key="new", user_id=user), code)
    again = [send(http, key=f"k{n}", user_id="u") for n in range(3)]

    assert [(a.status_code, a.json()["id"]) for a in again] == [(202, run["id"]) for run in taken]
    assert send(http, key="k0", input="other", user_id="u").status_code == 409
    ended = http.post(f"/v1/runs/{taken[0]['id']}/cancel").json()
    assert ended["status"] == "cancelled"
    wait_until(lambda: send(http, key="new", user_id=user).status_code == 202, description="there is room again")
    retried = http.post(f"/v1/runs/{ended['id']}/retry", headers={"Idempotency-Key": "r"})
    check_full(retried, code)


@pytest.mark.parametrize("api", [{"_PER_USER": 2}], indirect=True)
def test_one_users_bound_is_not_anothers(api: tuple[System, httpx2.Client]) -> None:
    """Who is refused does not keep others out."""
    _running, http = api
    for _ in range(2):
        assert send(http, user_id="u").status_code == 202
    check_full(send(http, user_id="u"), "queue_full")

    assert send(http, user_id="v").status_code == 202
