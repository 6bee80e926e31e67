"""Pages of rows that are bounded in bytes too: a list of large rows must not fill the memory of its reader.

The lengths are read first, then only the rows that fit. So a page can have fewer rows than were asked for, although
more follow; it has at least one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
)

from worker.store.columns import JsonOf, byte_length
from worker.store.engine import Page, Transaction
from worker.store.hot import Hot

PAGE_BYTES = 4 * 1024 * 1024
ROW_BYTES = 256  # of all other columns, about
JSON_WEIGHT = 4  # objects that are read from JSON take more memory than text
T = TypeVar("T")


def fitting(
    tx: Transaction, statement: Select[Any], size: ColumnElement[int], *, limit: int, most: int = PAGE_BYTES
) -> tuple[Sequence[Any], bool]:
    """Return the first rows of an ordered *statement* and whether more follow: *limit* rows and *most* bytes at most.

    *size* is the size of a row. The statement names its tables with `select_from`.
    """
    sizes = tx.execute(statement.with_only_columns(size).limit(limit + 1)).scalars().all()
    count = count_fitting(sizes[:limit], most=most)
    return tx.execute(statement.limit(count)).all() if count else [], len(sizes) > count


class Fitting:
    """The same for a statement that was built once, for pages of *limit* rows.

    On Postgres one statement reads them if all of them fit, as they mostly do; its limit is no parameter, so the server
    plans it once. SQLite has no round trips to save, and for the sum would sort all rows.
    """

    def __init__(self, statement: Select[Any], size: ColumnElement[int], *, limit: int) -> None:
        self._limit = limit
        one_more = literal_column(str(limit + 1), Integer())
        sizes = statement.with_only_columns(size.label("size")).limit(one_more)
        in_all = select(func.sum(sizes.subquery().c.size)).scalar_subquery()
        self._if_all_fit = Hot(statement.where(in_all <= PAGE_BYTES).limit(one_more))
        self._sizes, self._first = Hot(sizes), Hot(statement.limit(bindparam("count")))

    def read(self, tx: Transaction, values: Mapping[str, Any]) -> tuple[Sequence[Any], bool]:
        """Return what `fitting` returns."""
        if tx.dialect.name != "sqlite" and (rows := self._if_all_fit.rows(tx, values)):
            return rows[: self._limit], len(rows) > self._limit
        sizes = [row.size for row in self._sizes.rows(tx, values)]
        count = count_fitting(sizes[: self._limit], most=PAGE_BYTES)
        return self._first.rows(tx, {**values, "count": count}) if count else [], len(sizes) > count


def page(rows: Iterable[T], *, more: bool) -> Page[T]:
    """Return a page of these rows."""
    result = Page(rows)
    result.more = more
    return result


def count_fitting(sizes: Iterable[int], *, most: int) -> int:
    """Return how many of *sizes* have a sum of *most* at most; 1 if even the first has more."""
    count = total = 0
    for size in sizes:
        total += size
        if count and total > most:
            break
        count += 1
    return count


def size_of_columns(*columns: Column[Any]) -> ColumnElement[int]:
    """Return the size of a row as far as these columns decide it, in bytes."""
    weights = (JSON_WEIGHT if isinstance(column.type, (JSON, JsonOf)) else 1 for column in columns)
    sizes: list[ColumnElement[int]] = [byte_length(c) * weight for c, weight in zip(columns, weights, strict=True)]
    return sum(sizes, literal(ROW_BYTES))


def size_of_row(table: Table) -> ColumnElement[int]:
    """Return the size of a whole row, in bytes."""
    return size_of_columns(*(column for column in table.c if isinstance(column.type, (Text, JSON, JsonOf))))
