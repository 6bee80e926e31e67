"""A run that is ended from outside while its calls are still at work."""

import threading
import time

import pytest
from sqlalchemy import select

from worker import Agent, Calls, RunContext, ScriptedModel, Team, tool
from worker.db import Db
from worker.errors import RunFailed
from worker.runs.cancel import cancel
from worker.store import Database, messages, sessions
from worker.store.tables import runs

HELD_S = 2.0  # longer than a process takes to learn that its run was cancelled


def test_a_result_that_arrives_while_the_run_is_cancelled_is_written_once(database_url: str, db: Database) -> None:
    """A member's tool returns just before the cancel is noticed; its result waits for the lock, and is not doubled."""
    holders: list[threading.Thread] = []

    def hold(run_id: str, held: threading.Event) -> None:
        with db.write() as tx:
            sessions.lock_of_run(tx, run_id)
            held.set()
            time.sleep(HELD_S)

    @tool
    def look(context: RunContext) -> str:
        """Look, while a user cancels the run and somebody holds its session."""
        cancel(db, context.run_id)
        held = threading.Event()
        holders.append(threading.Thread(target=hold, args=(context.run_id, held)))
        holders[0].start()
        held.wait()
        return "seen"

    member = Agent(id="member", model=ScriptedModel([Calls(("look", {}))]), tools=[look])
    leader = ScriptedModel([Calls(("delegate_task_to_member", {"member_id": "member", "task": "look"}))])
    team = Team(id="t", model=leader, members=[member], db=Db(database_url))

    with pytest.raises(RunFailed, match="cancelled"):
        team.run("go", session_id="s")
    holders[0].join()
    with db.read() as tx:
        run_id = tx.execute(select(runs.c.id)).scalar_one()
        log = messages.of_run_by_id(tx, run_id)

    assert [m.role for m in log if m.author == "look"] == ["tool"]
    assert [m.content for m in log if m.author == "look"] == ["seen"]
    team.db.close()
