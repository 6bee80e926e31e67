"""What a plain run costs the database: its statements and its transactions, from accepted to ended, counted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.support import look
from tests.support.driver import listen
from tests.support.outcomes import execute
from worker import ScriptedModel, Team
from worker.domain import RunOrder
from worker.process.runtime import Runtime
from worker.runs.enqueue import enqueue
from worker.store import Database

STATEMENTS, TRANSACTIONS = 12, 4
Process = Callable[..., Runtime]


@pytest.mark.parametrize("key", [None, "order-17"], ids=["without a key", "with a key"])
@pytest.mark.parametrize("session", ["new", "s"], ids=["of a new session", "in a session"])
def test_a_plain_run_takes_few_statements(process: Process, session: str, key: str | None) -> None:
    """Accept, claim, read the history, finish: whatever is added to the hot path stands here, or has a reason."""
    model = ScriptedModel(["one", "two"])
    runtime = process(Team(id="t", model=model, add_history_to_context=True, num_history_runs=3))
    order(runtime, "first", session="s")

    with counted(runtime.db) as seen:
        run_id = order(runtime, "second", session=session, key=key)

    assert look.row(runtime.db, run_id).status == "completed"
    statements, transactions = seen
    assert len(statements) <= STATEMENTS, "\n".join(statements)
    assert len(transactions) <= TRANSACTIONS


def order(runtime: Runtime, text: str, *, session: str, key: str | None = None) -> str:
    """Accept a run and execute it, as an API and a worker do; return its id."""
    asked = RunOrder("t", text, session_id=session, user_id="u", metadata={}, timeout=99.0)
    run_id = enqueue(runtime.db, asked, settings=runtime.settings, idempotency_key=key).run.id
    assert execute(runtime, run_id, "t") == "completed"
    return run_id


@contextmanager
def counted(db: Database) -> Iterator[tuple[list[str], list[str]]]:
    """Collect the statements of this thread, and how its transactions ended."""
    statements: list[str] = []
    ends: list[str] = []
    own = threading.get_ident()

    def seen(_cursor: Any, statement: str, _parameters: Any) -> None:
        if threading.get_ident() == own:
            statements.append(statement)

    def end_seen(_connection: Any) -> None:
        if threading.get_ident() == own:
            ends.append("end")

    stop = listen(db.engine, before=seen)
    for name in ("commit", "rollback"):
        event.listen(db.engine, name, end_seen)
    try:
        yield statements, ends
    finally:
        stop()
        for name in ("commit", "rollback"):
            event.remove(db.engine, name, end_seen)
