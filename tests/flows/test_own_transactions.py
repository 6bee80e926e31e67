"""`enqueue(connection=)`: what is refused has written nothing, whatever its caller does then."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from worker import ScriptedModel, Team
from worker.db import Db
from worker.errors import IdempotencyConflict, QueueFull, SessionOfOtherTeam
from worker.store import Database
from worker.store.tables import idempotency, messages, runs, sessions


@pytest.fixture
def script(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Team]:
    """Make a team by its id, on a database that all of them share."""
    monkeypatch.setenv("TEAM_SESSIONS_MAX_QUEUED_PER_SESSION", "1")
    db = Db(database_url)
    return lambda id: Team(id=id, model=ScriptedModel(["Hello."]), db=db)


def test_a_refused_order_that_is_caught_and_committed_leaves_no_trace(
    script: Callable[[str], Team], db: Database
) -> None:
    """Of another team's session, under a used key, or above a limit: the session goes on, and its keys are free."""
    team, other = script("t"), script("other")
    team.enqueue("first", user_id="u", session_id="s", idempotency_key="k")
    team.enqueue("second", user_id="u", session_id="s")
    before = rows(db)

    with db.write() as tx:
        with pytest.raises(SessionOfOtherTeam):
            other.enqueue("x", user_id="u", session_id="s", idempotency_key="new", connection=tx)
        with pytest.raises(IdempotencyConflict):
            team.enqueue("other text", user_id="u", session_id="s", idempotency_key="k", connection=tx)
        with pytest.raises(QueueFull):
            team.enqueue("third", user_id="u", session_id="s", idempotency_key="new", connection=tx)

    assert rows(db) == before
    handle = other.enqueue("x", user_id="u", session_id="another", idempotency_key="new")
    assert handle.status == "queued"
    team.db.close()


def rows(db: Database) -> list[object]:
    """Return what an order writes."""
    with db.read() as tx:
        order = {runs: runs.c.id, sessions: sessions.c.pk, messages: messages.c.seq, idempotency: idempotency.c.key}
        return [tx.execute(select(table).order_by(column)).all() for table, column in order.items()]
