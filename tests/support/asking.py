"""Tools whose calls wait for a decision, and what the rows say of these calls."""

from typing import Any

from sqlalchemy import select

from worker import RunContext, tool
from worker.db import Db
from worker.domain import PendingCall
from worker.store import messages, pending_calls
from worker.store.tables import runs as runs_table


def tools_that_ask(made: list[Any]) -> list[Any]:
    """Return one tool of each kind, and one that waits for nothing. *made* gets their effects, in order."""

    @tool(requires_confirmation=True)
    def refund(eur: int, context: RunContext) -> str:
        """Refund."""
        made.append(("refund", eur, context.idempotency_key))
        return f"refunded {eur}"

    @tool(requires_user_input=True, user_input_fields=["address"])
    def ship(order: str, address: str) -> str:
        """Ship."""
        made.append(("ship", order, address))
        return f"shipped {order} to {address}"

    @tool(external_execution=True)
    def run_sql(query: str) -> str:
        """Run a query."""
        raise AssertionError

    def look(q: str) -> str:
        """Look."""
        made.append(("look", q))
        return f"found {q}"

    return [refund, ship, run_sql, look]


def calls_of(db: Db, run_id: str) -> list[PendingCall]:
    """Return the calls of a run that asked for a decision."""
    with db.runtime.db.read() as tx:
        return pending_calls.of_run(tx, run_id)


def results_of(db: Db, run_id: str) -> list[str]:
    """Return the results of a run's calls, as the model reads them."""
    with db.runtime.db.read() as tx:
        return [message.content for message in messages.of_run_by_id(tx, run_id) if message.role == "tool"]


def row_of(db: Db, run_id: str) -> Any:
    """Return the row of a run."""
    with db.runtime.db.read() as tx:
        return tx.execute(select(runs_table).where(runs_table.c.id == run_id)).one()
