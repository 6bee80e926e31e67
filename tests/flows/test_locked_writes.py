"""A write of a run that waits longer for a lock than the database allows."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from tests.support import look
from tests.support.life import accept, take
from tests.support.outcomes import execute
from worker import Calls, ScriptedModel, Team, tool
from worker.domain import Claim, End, RunOrder
from worker.process.runtime import Runtime
from worker.runs.claim import WAITED_S, NotClaimed, claim_head
from worker.runs.enqueue import enqueue
from worker.store import Database, sessions
from worker.store.columns import db_time
from worker.store.tables import messages, runs

HELD_S = 1.0
ALLOWED_MS = 200
LEASE_S = 1.0


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


def hold_session(db: Database, run_id: str, *, seconds: float = HELD_S) -> threading.Thread:
    """Hold the lock of a run's session for some seconds, from now on, on another connection."""
    held = threading.Event()

    def hold() -> None:
        with db.write() as tx:
            sessions.lock_of_run(tx, run_id)
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    return thread


def test_a_write_that_waits_for_the_lock_of_a_table_keeps_its_lease(
    process: Callable[..., Runtime], db: Database
) -> None:
    """Its own rows are locked in each try, so that the keeper skips them: it renews the lease between its tries."""
    if db.is_sqlite:
        pytest.skip("SQLite has one lock, which the keeper meets too")
    seen: list[bool] = []

    def reply(_request: Any) -> Any:
        lock = threading.Event()
        threads.append(threading.Thread(target=lock_messages, args=(lock,)))
        threads[0].start()
        assert lock.wait(10)
        return "Done."

    def lock_messages(lock: threading.Event) -> None:
        with db.write() as tx:
            tx.execute(text("LOCK TABLE team_sessions.messages IN SHARE MODE"))
            lock.set()
            with db.write() as other:
                other.execute(update(runs).where(runs.c.id == run_id).values(lease_until=db_time(-60.0)))
            time.sleep(3 * ALLOWED_MS / 1000)
            with db.read() as other:
                leased = select(runs.c.lease_until > db_time()).where(runs.c.id == run_id)
                seen.append(bool(other.execute(leased).scalar_one()))

    threads: list[threading.Thread] = []
    runtime = process(Team(id="t", model=ScriptedModel([reply])))
    allow_short_waits(runtime.db)
    run_id = enqueue(runtime.db, RunOrder("t", "hello", session_id="s"), settings=runtime.settings).run.id

    outcome = execute(runtime, run_id, "t")
    threads[0].join()

    assert (outcome, look.row(db, run_id).attempt, seen) == ("completed", 1, [True])


def test_a_long_wait_for_the_lock_of_a_session_takes_no_run_over(db: Database) -> None:
    """Who held it can be the owner of the expired lease, in a write that waited for another lock."""
    run_id = accept(db).run.id
    take(db, run_id, ttl_s=-1)
    definition = Team(id="t").definition
    holder = hold_session(db, run_id, seconds=WAITED_S + 0.5)

    waited = claim_head(db, run_id, owner="other", ttl_s=60, definition=definition)
    holder.join()
    at_once = claim_head(db, run_id, owner="other", ttl_s=60, definition=definition)

    assert db.is_sqlite or waited == NotClaimed(End.NOT_FREE, run_id)
    assert db.is_sqlite or isinstance(at_once, Claim)


def test_what_waited_for_a_lock_is_written_with_a_whole_lease(process: Callable[..., Runtime], db: Database) -> None:
    """Claims and writes take the lease first. After a wait as long as a lease it would have run out at the commit."""
    if db.is_sqlite:
        pytest.skip("SQLite has one lock, which comes first")
    leased: list[bool] = []
    locks = [MessagesLock(db)]

    @tool
    def look_at_lease() -> str:
        """Note whether the lease of the run is valid after its reply was written."""
        leased.append(locks[-1].is_outlived_by(run_id))
        return "seen"

    def reply(_request: Any) -> Any:
        leased.append(locks[-1].is_outlived_by(run_id))
        locks.append(MessagesLock(db))
        return Calls(("look_at_lease", {}))

    runtime = process(Team(id="t", model=ScriptedModel([reply, "Done."]), tools=[look_at_lease]), lease_seconds=LEASE_S)
    run_id = enqueue(runtime.db, RunOrder("t", "hello", session_id="s"), settings=runtime.settings).run.id

    outcome = execute(runtime, run_id, "t")

    assert (outcome, leased) == ("completed", [True, True])


class MessagesLock:
    """A lock of the table of messages, held for longer than a lease, from now on."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self._thread.start()
        assert self._held.wait(10)

    def is_outlived_by(self, run_id: str) -> bool:
        """Tell whether the lease of a run runs out after the lock has ended."""
        self._thread.join()
        with self._db.read() as tx:
            return bool(tx.execute(select(runs.c.lease_until).where(runs.c.id == run_id)).scalar_one() > self._ended_at)

    def _hold(self) -> None:
        with self._db.write() as tx:
            tx.execute(text("LOCK TABLE team_sessions.messages IN SHARE MODE"))
            self._held.set()
            time.sleep(LEASE_S + 0.3)
            self._ended_at = tx.execute(select(db_time())).scalar_one()
