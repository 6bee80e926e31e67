"""A deployment is set up as the handbook says: its settings in a file, its processes apart, on Postgres and Redis."""

import os
import re
import sys
from pathlib import Path

import pytest

from api_stub.client import Client
from tests.support.postgres import PostgresServer
from tests.support.system import ROOT
from tests.support.valkey import ValkeyServer
from tests.support.walk import reader, steps
from worker.queue.embedded import free_port

PAGE = ROOT / "ops/handbook/operations.md"
EXAMPLE = ROOT / "ops/examples/production.env"


@pytest.mark.extended
@pytest.mark.processes
def test_a_deployment_is_set_up_as_the_page_says(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer, model_server: str
) -> None:
    """From an empty database to a run that a service with few scopes enqueues; then its key is replaced."""
    there = tmp_path / "there"
    theirs = {
        "TEAM_SESSIONS_DATABASE_URL": (url := postgres.new_database(empty=True)),
        "TEAM_SESSIONS_REDIS_URL": valkey.url,
        "OPENAI_API_KEY": "none",
    }

    def fill_in() -> None:
        settings = (there / "production.env").read_text()
        for name, value in theirs.items():
            settings, found = re.subn(rf"^{name}=.*$", f"{name}='{value}'", settings, flags=re.MULTILINE)
            assert found == 1, f"{EXAMPLE.name} has {name}"
        (there / "production.env").write_text(f"{settings}\nOPENAI_BASE_URL='{model_server}'\n")

    port = free_port()
    operator = reader(
        there,
        environment={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        replace={r"\b8000\b": str(port), r"\b5555\b": str(free_port())},
        before={"^set -a": fill_in},
    )
    team = next(step for step in steps(ROOT / "README.md") if step.kind == "my_teams.py")
    (there / team.kind).write_text(team.text)

    try:
        operator.follow(PAGE)
        keys = [(there / name).read_text().strip() for name in ("shop-key", "shop-key.new")]
        for key in keys:
            with Client(f"http://127.0.0.1:{port}", key) as shop:
                run = shop.run(shop.enqueue("support", "Hello", user_id="ada")["id"], wait_s=60)
                assert run["status"] == "completed"
    finally:
        operator.close()
        postgres.drop(url)

    assert keys[0] != keys[1]
    for name in ("production.env", "flower-login", "shop-key", "shop-key.new"):
        assert (there / name).stat().st_mode & 0o077 == 0, name
    for log in there.glob("*.err"):
        assert "is not a setting" not in log.read_text()
