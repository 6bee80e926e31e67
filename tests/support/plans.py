"""How a database would find the rows of a statement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import driver
from worker.store import Database


@contextmanager
def statements(db: Database) -> Iterator[dict[str, Any]]:
    """Collect the statements that the block executes, each with its last parameters."""
    executed: dict[str, Any] = {}

    def keep(_cursor: Any, statement: str, parameters: Any) -> None:
        if statement.split(" ", 1)[0] in ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH"):
            executed[statement] = parameters[0] if isinstance(parameters, list) else parameters

    stop = driver.listen(db.engine, before=keep)
    yield executed
    stop()


def plan(db: Database, statement: str, parameters: Any, *, in_order: bool = False) -> list[str]:
    """Return the lines of a statement's plan; *in_order*: one that sorts nothing, if there is any."""
    with db.write() as tx:
        if db.is_sqlite:
            return [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")  # with few rows a scan is cheap, and proves nothing
        if in_order:
            tx.exec_driver_sql("SET LOCAL enable_sort = off")
        return [row[0] for row in tx.exec_driver_sql(f"EXPLAIN {statement}", parameters)]
