"""Column types and expressions that mean the same on SQLite and on Postgres, and rows as dataclasses."""

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Float,
    Integer,
    Table,
    bindparam,
    case,
    exists,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from worker import clock

T = TypeVar("T")
BigKey = BigInteger().with_variant(Integer(), "sqlite")  # SQLite increments only a column whose type is INTEGER


class UtcTime(TypeDecorator[datetime]):
    """A point in time, to the microsecond, always aware and in UTC.

    Postgres: timestamptz. SQLite: text 'YYYY-MM-DD HH:MM:SS.ffffff', which sorts as time does.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class JsonOf(TypeDecorator[Any]):
    """JSON of one kind: an object, `dict`, or a list of texts, `list`.

    A row can hold something else, because another program wrote it. It is then read without what does not fit: one odd
    row must not break a list.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, kind: type[dict[str, Any]] | type[list[str]]) -> None:
        super().__init__()
        self.kind = kind

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], Any]:
        parse = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            try:
                parsed = value if parse is None else parse(value)
            except ValueError:
                return self.kind()
            if not isinstance(parsed, self.kind):
                return self.kind()
            return [text for text in parsed if isinstance(text, str)] if isinstance(parsed, list) else parsed

        return process


class db_time(FunctionElement[datetime]):  # noqa: N801 - reads as an SQL function
    """The database's own clock, some seconds from now: `db_time(15.0)`.

    Leases are compared on this clock only, because the clocks of two workers may differ. Not `now()` on Postgres: it
    is the start of the transaction, so it is too old after a wait for a lock.
    """

    type = UtcTime()
    inherit_cache = True

    def __init__(self, offset_s: float | BindParameter[float] = 0.0) -> None:
        super().__init__(offset_s if isinstance(offset_s, BindParameter) else literal(float(offset_s), Float()))


TTL = bindparam("ttl_s", type_=Float())  # seconds of a lease, a parameter of statements that are built once


@compiles(db_time, "postgresql")
def _on_postgres(element: db_time, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(db_time, "sqlite")
def _on_sqlite(element: db_time, compiler: SQLCompiler, **kw: Any) -> str:
    return f"utc_now({compiler.process(element.clauses, **kw)})"


class likely(FunctionElement[bool]):  # noqa: N801 - as above
    """A condition that most of the rows meet that are worth a look. SQLite, which has no statistics, would otherwise
    read all rows that meet it rather than the few of a partial index.
    """

    type = Boolean()
    inherit_cache = True
    _is_implicitly_boolean = True  # else SQLAlchemy writes `= 1` behind it, and no index fits


@compiles(likely, "postgresql")
def _likely_on_postgres(element: likely, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(likely, "sqlite")
def _likely_on_sqlite(element: likely, compiler: SQLCompiler, **kw: Any) -> str:
    return f"likely({compiler.process(element.clauses, **kw)})"


class byte_length(FunctionElement[int]):  # noqa: N801 - as above
    """The bytes of a text or of JSON as its column holds it; 0 for NULL. On Postgres the value itself is not read."""

    type = Integer()
    inherit_cache = True


@compiles(byte_length, "postgresql")
def _bytes_on_postgres(element: byte_length, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(octet_length(CAST({compiler.process(element.clauses, **kw)} AS TEXT)), 0)"


@compiles(byte_length, "sqlite")
def _bytes_on_sqlite(element: byte_length, compiler: SQLCompiler, **kw: Any) -> str:
    return f"coalesce(length(CAST({compiler.process(element.clauses, **kw)} AS BLOB)), 0)"


def utc_now(offset_s: float) -> str:
    """Return the time as text: `db_time` calls this on SQLite, whose own clock has no microseconds. See `engine.py`."""
    return (clock.now() + timedelta(seconds=offset_s)).strftime("%Y-%m-%d %H:%M:%S.%f")


def db_now(tx: Connection) -> datetime:
    """Return the database's time."""
    return tx.execute(select(db_time())).scalar_one()


def upsert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT into *table* that supports ON CONFLICT, which each dialect has in a class of its own.

    Ask RETURNING whether a row went in, not `rowcount`: psycopg does not count rows that a conflict left out.
    """
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def contains(dialect: str, column: Column[Any], text: str | BindParameter[str]) -> ColumnElement[bool]:
    """Return the condition that a JSON list contains the string *text*."""
    is_list: ColumnElement[bool]
    if dialect == "sqlite":
        is_list = func.json_valid(column).cast(Boolean) & (func.json_type(column) == "array")
        elements = func.json_each(case((is_list, column), else_=literal_column("'[]'")))
    else:
        is_list = func.json_typeof(column) == "array"
        elements = func.json_array_elements_text(case((is_list, column), else_=literal_column("'[]'::json")))
    element = elements.table_valued("value")
    return exists().where(element.c.value == text)


_field_names: Callable[[Any], tuple[str, ...]] = cache(lambda shape: tuple(field.name for field in fields(shape)))


def columns_of(shape: type, table: Table, **renamed: str) -> tuple[Column[Any], ...]:
    """Return the columns of *table* for the fields of a dataclass; *renamed*: where the names differ."""
    return tuple(table.c[renamed.get(name, name)] for name in _field_names(shape))


def from_columns(shape: type[T], row: Any, **values: Any) -> T:
    """Return a dataclass whose fields are *values* and, for the others, the columns of *row* with their names."""
    return shape(**{name: values[name] if name in values else getattr(row, name) for name in _field_names(shape)})
