"""Statements of the path of every run: SQLAlchemy compiles each once, and on Postgres the driver sends it.

SQLAlchemy's own execution takes 85 µs of processor time for a statement, the driver's cursor 36. On SQLite, and for
what is not sent for every run, statements are executed the usual way.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from sqlalchemy import Delete, Insert, Select, Update
from sqlalchemy.exc import DBAPIError

from worker.store.engine import Transaction, is_read_only

Process = Callable[[Any], Any] | None


class Hot:
    """A statement that was built once, with parameters. Its methods return rows as those of SQLAlchemy."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self.statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def rows(self, tx: Transaction, values: Mapping[str, Any]) -> list[Any]:
        """Execute it, and return its rows."""
        if tx.dialect.name == "sqlite":
            return list(tx.execute(self.statement, values))
        names = tuple(values)
        compiled = self._compiled.get(names)
        if compiled is None:
            compiled = self._compiled[names] = _Compiled(self.statement, tx, names)
        return compiled.rows(tx, values)

    def one_or_none(self, tx: Transaction, values: Mapping[str, Any]) -> Any:
        """Execute it, and return its row; None: there is none."""
        found = self.rows(tx, values)
        return found[0] if found else None

    def one(self, tx: Transaction, values: Mapping[str, Any]) -> Any:
        """Execute it, and return its one row."""
        (row,) = self.rows(tx, values)
        return row


class _Compiled:
    """A statement in the words of the driver, for values with these names."""

    def __init__(self, statement: Any, tx: Transaction, names: tuple[str, ...]) -> None:
        dialect: Any = tx.dialect
        compiled = statement.compile(dialect=dialect, column_keys=list(names) if statement.is_dml else None)
        self._sql = str(compiled)
        self._fixed: dict[str, Any] = {}
        self._given: list[tuple[str, str, Process]] = []  # parameter, name of the value, what is done with it
        for name, bind in compiled.binds.items():
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if bind.key in names:
                self._given.append((name, bind.key, process))
            else:
                self._fixed[name] = bind.effective_value if process is None else process(bind.effective_value)
        columns = statement.exported_columns
        row: Any = namedtuple("Row", [column.key for column in columns], rename=True)  # type: ignore[misc]  # mypy wants a literal
        self._make = row._make
        types = [column.type.dialect_impl(dialect) for column in columns]
        processes = [type_.result_processor(dialect, type_.get_dbapi_type(dialect.dbapi)) for type_ in types]
        self._read = [(n, process) for n, process in enumerate(processes) if process is not None]

    def rows(self, tx: Transaction, values: Mapping[str, Any]) -> list[Any]:
        parameters = dict(self._fixed)
        for name, key, process in self._given:
            value = values[key]
            parameters[name] = value if process is None else process(value)
        connection: Any = tx.connection.dbapi_connection
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._sql, parameters)
                found = cursor.fetchall()
        except psycopg.Error as error:
            dialect: Any = tx.dialect
            if is_read_only(error) or dialect.is_disconnect(error, connection, None):
                tx.invalidate(error)
            raise DBAPIError.instance(self._sql, None, error, psycopg.Error, dialect=dialect) from error
        if self._read:
            found = [self._processed(row) for row in found]
        return [self._make(row) for row in found]

    def _processed(self, row: tuple[Any, ...]) -> list[Any]:
        columns = list(row)
        for n, process in self._read:
            columns[n] = process(columns[n])
        return columns
