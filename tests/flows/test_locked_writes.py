"""A write of a run that waits longer for a lock than the database allows."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.support import look
from tests.support.outcomes import execute
from worker import Calls, ScriptedModel, Team, tool
from worker.domain import RunOrder
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.store import Database, sessions
from worker.store.tables import messages

HELD_S = 1.0
ALLOWED_MS = 200


@tool
def parcel() -> str:
    """Find the parcel."""
    return "sent"


@pytest.mark.parametrize("locked_reply", [0, 1], ids=["a reply that calls a tool", "the answer"])
def test_a_reply_whose_write_meets_a_lock_is_written_once_the_lock_is_free(
    process: Callable[..., Runtime], db: Database, locked_reply: int
) -> None:
    """It is paid for once, and the run completes in the same attempt: nothing waits for the lease to run out."""
    holders: list[threading.Thread] = []
    replies = [Calls(("parcel", {})), "It was sent."]

    def reply(number: int) -> Callable[[Any], Any]:
        def step(_request: Any) -> Any:
            if number == locked_reply:
                holders.append(hold_session(db, run_id))
            return replies[number]

        return step

    model = ScriptedModel([reply(0), reply(1)])
    runtime = process(Team(id="t", model=model, tools=[parcel]))
    allow_short_waits(runtime.db)
    run_id = enqueue(runtime.db, RunOrder("t", "hello", session_id="s"), settings=runtime.settings).run.id

    outcome = execute(runtime, run_id, "t")
    holders[0].join()

    model.check_finished()
    assert (outcome, look.row(db, run_id).attempt) == ("completed", 1)
    with db.read() as tx:
        roles = tx.execute(select(messages.c.role).order_by(messages.c.seq)).scalars().all()
    assert roles == ["user", "assistant", "tool", "assistant"]


def allow_short_waits(database: Database) -> None:
    """Let the new connections of a database wait for a lock no longer than ALLOWED_MS."""

    @event.listens_for(database.engine, "connect")
    def shorten(connection: Any, _record: Any) -> None:
        if database.is_sqlite:
            connection.execute(f"PRAGMA busy_timeout = {ALLOWED_MS}")
        else:
            connection.execute(f"SET lock_timeout = {ALLOWED_MS}")
            connection.commit()

    database.engine.dispose()


def hold_session(db: Database, run_id: str) -> threading.Thread:
    """Hold the lock of a run's session for HELD_S seconds, from now on, on another connection."""
    held = threading.Event()

    def hold() -> None:
        with db.write() as tx:
            sessions.lock_of_run(tx, run_id)
            held.set()
            time.sleep(HELD_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    return thread
