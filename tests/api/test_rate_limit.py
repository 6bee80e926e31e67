"""A key that asks too often is told when to come again."""

from pathlib import Path

import httpx2

from tests.support.system import system
from tests.support.valkey import ValkeyServer


def test_a_key_that_asks_too_often_is_told_when_to_come_again(
    tmp_path: Path, database_url: str, valkey: ValkeyServer
) -> None:
    """Each key has a bucket of its own; the probes need no key, and none is taken for them."""
    settings = {"TEAM_SESSIONS_REQUESTS_PER_MINUTE": "3"}
    with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as running:
        running.start_api()
        headers = {"Authorization": f"Bearer {running.key}"}

        answers = [httpx2.get(f"{running.url}/v1/teams", headers=headers, timeout=60) for _ in range(5)]

        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].json()["code"] == "rate_limited"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert httpx2.get(f"{running.url}/healthz", timeout=60).status_code == 200
        assert (
            httpx2.get(f"{running.url}/v1/teams", headers={"Authorization": "Bearer x"}, timeout=60).status_code == 401
        )
