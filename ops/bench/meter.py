"""Count what the statements of one thread cost: what the driver sent and got, and what the database visited for it.

Bytes are those of the text that crosses the driver: statement and parameters out, values in (on Postgres as they stood
in the server's answer). Digits of numbers and of times are counted apart: position 10000 has three more than 10, and
Postgres leaves the zeros at a time's end out.

`visited` is the work inside: on SQLite instructions of its virtual machine, on Postgres rows and index entries that
scans returned. `blocks`: of Postgres, tables and indexes, in memory or not.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from tests.support.driver import listen

_NUMBERS = {20, 21, 23, 700, 701, 1114, 1184, 1700}  # OIDs of integers, floats, timestamps and numeric in an answer
_VISITED = """
    SELECT sum(pg_stat_get_xact_tuples_returned(oid)), sum(pg_stat_get_xact_blocks_fetched(oid))
    FROM pg_class WHERE oid >= 16384  -- ours: those below are the server's own
"""


@dataclass(slots=True)
class Cost:
    """What was counted. `digits_read` and `digits_written` are part of the bytes."""

    statements: int = 0
    transactions: int = 0
    rows_read: int = 0
    rows_written: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    digits_read: int = 0
    digits_written: int = 0
    visited: int = 0
    blocks: int = 0

    def without_digits(self) -> tuple[int, ...]:
        """What must not depend on anything but the run."""
        rows = (self.statements, self.transactions, self.rows_read, self.rows_written)
        return (*rows, self.bytes_read - self.digits_read, self.bytes_written - self.digits_written)


class Meter:
    """Counts the statements that the thread in `counting()` sends through *engine*; costs little otherwise."""

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self._cost = Cost()
        self._thread: int | None = None
        self._before: tuple[int, int] = (0, 0)  # rows changed, or visited and blocks, when the transaction began
        listen(engine, before=self._before_statement, after=self._after_statement)
        for name in ("begin", "commit", "rollback"):
            event.listen(engine, name, getattr(self, f"_{name}"))

    @contextmanager
    def counting(self) -> Iterator[Cost]:
        """Count what this thread does in the block."""
        self._cost, self._thread = Cost(), threading.get_ident()
        try:
            yield self._cost
        finally:
            self._thread = None

    @property
    def _off(self) -> bool:
        return self._thread != threading.get_ident()

    def _begin(self, connection: Connection) -> None:
        if self._off:
            return
        self._cost.transactions += 1
        driver: Any = connection.connection.dbapi_connection
        if self._sqlite:
            self._before = (driver.total_changes, 0)
            driver.set_progress_handler(self._step, 1)
        else:
            self._before = driver.execute(_VISITED).fetchone()

    def _commit(self, connection: Connection) -> None:
        if self._off:
            return
        driver: Any = connection.connection.dbapi_connection
        if self._sqlite:
            driver.set_progress_handler(None, 1)
            self._cost.rows_written += driver.total_changes - self._before[0]
        else:
            visited, blocks = driver.execute(_VISITED).fetchone()
            self._cost.visited += int(visited - self._before[0])
            self._cost.blocks += int(blocks - self._before[1])

    _rollback = _commit  # how a read ends

    def _step(self) -> int:
        self._cost.visited += 1
        return 0

    def _before_statement(self, cursor: Any, statement: str, parameters: Any) -> None:
        if self._off or statement == _VISITED:
            return
        self._cost.statements += 1
        self._cost.bytes_written += len(statement.encode())
        for value in parameters.values() if isinstance(parameters, dict) else parameters or ():
            size, digits = _size(value)
            self._cost.bytes_written += size
            self._cost.digits_written += digits
        if self._sqlite:
            cursor.row_factory = self._row_of_sqlite

    def _after_statement(self, cursor: Any, statement: str, _parameters: Any) -> None:
        if self._off or self._sqlite or statement == _VISITED:
            return
        answer = cursor.pgresult
        self._cost.rows_read += answer.ntuples
        for column in range(answer.nfields):
            size = sum(len(answer.get_value(row, column) or b"") for row in range(answer.ntuples))
            self._cost.bytes_read += size
            self._cost.digits_read += size if answer.ftype(column) in _NUMBERS else 0
        if not cursor.statusmessage.startswith("SELECT"):
            self._cost.rows_written += cursor.rowcount

    def _row_of_sqlite(self, _cursor: Any, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """The driver calls this for each row that it reads."""
        self._cost.rows_read += 1
        for value in row:
            size, digits = _size(value)
            self._cost.bytes_read += size
            self._cost.digits_read += digits
        return row


def _size(value: Any) -> tuple[int, int]:
    """Return the bytes of a value as text, and how many of them are digits of a number or a time."""
    match value:
        case None:
            return 0, 0
        case str():
            return len(value.encode()), 0
        case int() | float() | datetime():
            return len(str(value)), len(str(value))
        case _:  # psycopg's wrapper of a JSON value
            return len(json.dumps(value.obj)), 0
