"""A rolling deploy under load: a migration in two halves, workers and API replaced one by one, and nothing fails."""

import os
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import text

from tests.support.rollout import People, faults, replace_api, replace_workers
from tests.support.system import System
from tests.support.valkey import ValkeyServer
from tests.support.versions import base_version, next_version, this_version
from worker.store import Database
from worker.store.tables import SCHEMA

pytestmark = pytest.mark.processes
WORKERS, PEOPLE = 3, 8
SETTINGS = {"TEAM_SESSIONS_LEASE_SECONDS": "600", "TEAM_SESSIONS_HANDOVER_SECONDS": "1"}  # no lease helps out


@pytest.mark.extended
def test_a_deploy_fails_no_run_and_pays_for_none_twice(empty_url: str, tmp_path: Path, valkey: ValkeyServer) -> None:
    """Old and new work side by side: a column is added, filled, and dropped when the last old process has gone."""
    old, new = base_version(tmp_path), next_version(tmp_path)
    print(f"from {old.name} to {new.name}")
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": empty_url}
    old.check(environment)
    new.check(environment)
    old.migrate(environment=environment)
    running = System(tmp_path, database_url=empty_url, redis_url=valkey.url, settings=SETTINGS)
    try:
        running.start_workers(WORKERS, code=old.path)
        running.start_api(code=old.path)
        people = People(running, PEOPLE)
        people.wait_for(2 * PEOPLE)

        said = new.migrate(environment=environment)
        assert "Left for --removing, when no process of an older version is left: next_3." in said
        replace_workers(running, new)
        replace_api(running, new)
        by_old = _count(running.db, "team_version IS NOT NULL AND definition_version IS NULL")
        by_new = _count(running.db, "team_version IS NULL AND definition_version IS NOT NULL")
        new.migrate("--removing", environment=environment)
        people.wait_for(len(people.accepted) + PEOPLE)
        people.stop()

        assert faults(running, people.accepted) == []
        assert min(by_old, by_new) > 0, "both versions have written beside each other"
        assert _count(running.db, "definition_version IS NULL") == 0
        handed_over = _count(running.db, "attempt > 1")
        print(f"{len(people.accepted)} runs, {handed_over} handed over; {by_old} and {by_new} written side by side")
        assert handed_over
    finally:
        running.close()


@pytest.mark.default_on("sqlite")
def test_an_old_process_starts_and_is_ready_between_the_halves(
    empty_url: str, tmp_path: Path, valkey: ValkeyServer
) -> None:
    """Whoever is started again in the middle of a deploy, or rolled back, works; the API stays ready all along."""
    new = next_version(tmp_path)
    environment = {**os.environ, "TEAM_SESSIONS_DATABASE_URL": empty_url}
    this_version(tmp_path).migrate(environment=environment)
    running = System(tmp_path, database_url=empty_url, redis_url=valkey.url, settings=SETTINGS)
    try:
        client = running.start_api()
        new.migrate(environment=environment)
        running.start_worker()

        run = client.enqueue("with-tool", "old [steps=1]", session_id="s", user_id="u")
        assert client.wait(run["id"], user_id="u", timeout_s=60)["status"] == "completed"
        assert httpx2.get(f"{running.url}/readyz", timeout=60).status_code == 200
        new.migrate("--removing", environment=environment)
        after = httpx2.get(f"{running.url}/readyz", timeout=60)
        assert (after.status_code, after.json()["status"]) == (503, "no schema")
    finally:
        running.close()


def _count(db: Database, condition: str) -> int:
    table = "runs" if db.is_sqlite else f"{SCHEMA}.runs"
    with db.read() as tx:
        return int(tx.execute(text(f"SELECT count(*) FROM {table} WHERE attempt > 0 AND {condition}")).scalar_one())
