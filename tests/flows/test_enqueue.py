"""`team.enqueue()`: a script hands a run to the workers, and follows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.support import teams
from tests.support.postgres import PostgresServer
from tests.support.system import System
from tests.support.valkey import ValkeyServer
from worker.db import Db
from worker.errors import RunNotFound
from worker.team import Team


@pytest.fixture
def team(tmp_path: Path, database_url: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """A team that one worker serves, as a script sees it."""
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url)
    system.start_worker()
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", valkey.url)
    yield Team(id="plain", db=Db(database_url))
    system.close()


def test_a_handle_follows_its_run(team: Team) -> None:
    """Status, events and the end; the same key finds the same run."""
    handle = team.enqueue("Hello, I am Ada.", user_id="u", session_id="s", idempotency_key="k")
    again = team.enqueue("Hello, I am Ada.", user_id="u", session_id="s", idempotency_key="k")

    events = [event.type for event in handle.stream()]
    done = handle.wait(timeout=120)

    assert again.run_id == handle.run_id
    assert (events[0], events[-1]) == ("run.queued", "run.completed")
    assert (done.status, handle.status) == ("completed", "completed")
    assert "Ada" in (done.output or "")


def test_a_handle_cancels_its_run(team: Team) -> None:
    """A model call that has sent nothing is ended."""
    handle = team.enqueue("slow [delay=30]", session_id="s")
    next(event for event in handle.stream() if event.type == "run.started")

    handle.cancel()

    assert handle.wait(timeout=120).status == "cancelled"


def test_a_run_is_enqueued_in_the_callers_own_transaction(
    tmp_path: Path, postgres: PostgresServer, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed or rolled back with the caller's rows; the sweep finds it even if nobody tells the workers."""
    url = postgres.new_database()
    system = System(tmp_path, database_url=url, redis_url=valkey.url)
    system.start_worker()
    monkeypatch.setenv("TEAM_SESSIONS_REDIS_URL", valkey.url)
    team = Team(id=teams.plain.id, db=Db(url))
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int)"))

    with engine.connect() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        lost = team.enqueue("Hello", session_id="s", connection=connection)
        connection.rollback()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (2)"))
        kept = team.enqueue("Hello", session_id="s", connection=connection)
    told = team.enqueue("Hello", session_id="t")
    done = [kept.wait(timeout=120), told.wait(timeout=120)]
    engine.dispose()
    system.close()

    with pytest.raises(RunNotFound):
        lost.run()
    assert [(run.status, run.position) for run in done] == [("completed", 1), ("completed", 1)]


def test_deleting_a_session_ends_its_running_run_and_its_stream(team: Team) -> None:
    """Nothing of it is left, who watches is let go, and a late writer brings nothing back."""
    handle = team.enqueue("slow [steps=0] [delay=1] [words=3]", session_id="s")
    events = handle.stream()
    seen = [next(events).type, next(events).type]

    deleted = team.delete_session("s")
    seen += [event.type for event in events]

    assert deleted
    assert seen[:2] == ["run.queued", "run.started"]
    assert not {"run.completed", "run.failed"} & set(seen)
    with pytest.raises(RunNotFound):
        handle.run()
    assert team.enqueue("Hello again", session_id="s").wait(timeout=120).position == 1
    assert team.get_messages_for_session("s")[0].content == "Hello again"
