"""A worker takes nothing before it has all that it needs, and whatever is away while it starts may come later."""

from contextlib import closing
from pathlib import Path

import pytest

from tests.support import look
from tests.support.postgres import PostgresServer
from tests.support.system import PROGRAM, System, system, wait_until
from tests.support.valkey import ValkeyServer
from worker.store import teams
from worker.store.ready import SILENT_S

pytestmark = pytest.mark.processes
WORKER = [*PROGRAM, "worker"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"TEAM_SESSIONS_TEAMS": "no_such_module"}, "no_such_module"),
        ({"TEAM_SESSIONS_DATABASE_URL": "sqlite:///{directory}/new.db"}, "team-sessions db upgrade"),
    ],
    ids=["no teams", "no tables"],
)
def test_a_worker_that_cannot_execute_runs_takes_none(running: System, wrong: dict[str, str], said: str) -> None:
    """Without its teams or its tables it ends before it consumes, and says what to do; the run waits for another."""
    good = running.start_worker()
    client = running.start_api()
    good.terminate()
    good.wait(timeout=30)
    run = client.enqueue("plain", "anybody?", session_id="s", user_id="u")

    settings = {name: value.format(directory=running.directory) for name, value in wrong.items()}
    worker = running.start("wrong", WORKER, environment={**running.environment, **settings})
    code = worker.wait(timeout=60)
    waiting = look.row(running.db, run["id"])
    running.start_worker()
    done = client.run(run["id"], wait_s=60)

    assert code == 2
    assert said in running.log("wrong")
    assert "Traceback" not in running.log("wrong")
    assert (waiting.status, waiting.attempt) == ("queued", 0)
    assert (done["status"], done["attempt"]) == ("completed", 1)


def test_a_worker_whose_database_goes_away_while_it_starts_sweeps_once_it_is_back(tmp_path: Path) -> None:
    """It waits for its broker; when that comes, the database has gone. With both back it announces itself and works."""
    with (
        closing(PostgresServer(durable=True)) as postgres,
        closing(ValkeyServer()) as valkey,
        system(tmp_path, database_url=postgres.new_database(), redis_url=valkey.url) as running,
    ):
        valkey.kill()
        running.start("worker-1", WORKER, environment=running.environment)
        wait_until(lambda: "Cannot connect" in running.log("worker-1"), description="it waits for the broker")

        postgres.stop(mode="immediate")
        valkey.start()
        wait_until(lambda: "could not announce" in running.log("worker-1"), description="it has begun")
        postgres.start()

        def live() -> bool:
            with running.db.read() as tx:
                return bool(teams.live(tx, silent_s=SILENT_S))

        wait_until(live, description="it has announced itself")
        client = running.start_api()
        run = client.run(client.enqueue("plain", "there?", session_id="s", user_id="u")["id"], wait_s=60)

        assert run["status"] == "completed"
