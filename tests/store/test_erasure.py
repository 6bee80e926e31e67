"""Everything of a user is exported, and nothing is left of it: in every column of every table, by marks in all of them.

A new column gets a mark here without being named; a new table, or a column that is not exported, has to be listed.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import JSON, Column, String, Table, Text, select

from worker import privacy
from worker.domain import SERVICE
from worker.events.erase import Eraser
from worker.settings import Settings
from worker.store import Database, tables
from worker.store.columns import JsonOf, UtcTime, db_time

USER, OTHER = "ZQX-user", "other"
FREE = {"teams"}  # tables without anything of a user
# Columns whose marks need not be in an export: what the product needs for itself, and no answer to "what do you know".
NOT_EXPORTED = {
    *("runs.lease_owner", "messages.session_pk", "api_keys.secret_hash", "idempotency.request_hash"),
    *("batches.request_key", "batches.request_hash", "batches.planned_key", "batches.minute", "sessions.head_run_id"),
    "tool_starts.idempotency_key",
    *("summary_jobs.lease_owner", "summary_jobs.error_code", "summary_jobs.draft"),  # of a refresh that is not done
    *("messages.usage", "messages.extra"),
}
RELATED: dict[str, dict[str, Any]] = {
    "sessions": {"pk": 1, "user_id": USER, "forked_from": None, "team_id": "t"},
    "runs": {"id": "run_1", "session_pk": 1, "user_id": USER, "status": "failed", "not_before": None},
    "messages": {"session_pk": 1},
    "summaries": {"session_pk": 1},
    "summary_jobs": {"session_pk": 1},
    "tool_starts": {"run_id": "run_1"},
    "pending_calls": {"run_id": "run_1"},
    "idempotency": {"user_id": USER},
    "api_keys": {"user_id": USER},
    "batches": {"user_id": USER},
    "batch_items": {
        **{"batch_id": "of a service", "user_id": USER, "error_code": None},
        **dict.fromkeys(("run_id", "source_run_id"), "run_1"),
    },
}


OF_SERVICE: dict[str, Any] = {  # a batch that an operator has ordered
    **{"id": "of a service", "user_id": None, "status": "paused", "spec": {}, "teams": "[]", "request_key": "k"},
    **{"request_hash": "h", "outcomes": {}, "minute": {}, "planned_key": None, "paused_by": None, "error_code": None},
}


class NoStreams(Eraser):
    """An eraser without a Redis."""

    def __init__(self) -> None:
        pass

    def erase(self, run_ids: object) -> None:
        """Do nothing."""


def mark(column: Column[Any]) -> str:
    return f"ZQX-{column.table.name}.{column.key}"


def filled(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a mark in each column of text or JSON that *values* does not name."""

    def value(column: Column[Any]) -> Any:
        if column.key in values:
            return values[column.key]
        if isinstance(column.type, JSON | JsonOf):
            return {"key": mark(column)} if getattr(column.type, "kind", list) is dict else [mark(column)]
        if isinstance(column.type, UtcTime):
            return db_time()
        if isinstance(column.type, Text | String):
            return mark(column)[: column.type.length]
        return column.type.python_type(1)

    return {column.key: value(column) for column in table.columns}


@pytest.fixture
def marked(db: Database) -> Database:
    """A database with everything of one user, and a session of another."""
    assert set(RELATED) | FREE == {table.name for table in tables.metadata.sorted_tables}
    with db.write() as tx:
        tx.execute(tables.batches.insert().values(**filled(tables.batches, OF_SERVICE)))
        for table in tables.metadata.sorted_tables:
            if table.name not in FREE:
                tx.execute(table.insert().values(**filled(table, RELATED[table.name])))
        own = {"pk": 2, "user_id": OTHER, "session_id": "s", "team_id": "t", "tags": [], "metadata": {}, "state": {}}
        times = {"created_at": db_time(), "updated_at": db_time()}
        tx.execute(tables.sessions.insert().values(**own, **times, run_count=0, last_seq=0))
    return db


def traces(db: Database) -> Iterator[str]:
    """Yield each column that holds a mark."""
    with db.read() as tx:
        for table in tables.metadata.sorted_tables:
            for row in tx.execute(select(table)):
                yield from (f"{table.name}.{c.key}" for c in table.columns if "ZQX" in repr(row._mapping[c]))


def test_nothing_of_an_erased_user_is_left(marked: Database) -> None:
    """In no column of any table; what others have stays."""
    before = set(traces(marked))

    privacy.erase(marked, NoStreams(), Settings(), USER, principal=SERVICE)

    assert len(before) > 60
    assert list(traces(marked)) == []
    with marked.read() as tx:
        assert tx.execute(select(tables.sessions.c.user_id)).scalars().all() == [OTHER]
        item = tx.execute(select(tables.batch_items)).one()
        assert (item.batch_id, item.user_id, item.request, item.custom_id) == ("of a service", None, None, None)


def test_everything_of_a_user_is_exported(marked: Database) -> None:
    """Each column that holds a mark is in the export, but for the product's own; secrets are not."""
    held = set(traces(marked))

    lines = list(privacy.export(marked, USER, principal=SERVICE))

    text = json.dumps(lines, default=str)
    exported = {column for column in held if _is_in(text, column)}
    missing = {column for column in held - exported - NOT_EXPORTED if not column.endswith(".user_id")}
    assert missing == set()
    assert USER in text
    assert "secret_hash" not in text
    kinds = {
        "session",
        "run",
        "message",
        "pending_call",
        "summary",
        "batch_item",
        "idempotency_key",
        "batch",
        "api_key",
    }
    assert {line["type"] for line in lines} == kinds


def _is_in(text: str, name: str) -> bool:
    """Tell whether the mark of a column, as far as it fits into the column, is in an export."""
    table, _, column = name.partition(".")
    found: Column[Any] = tables.metadata.tables[f"team_sessions.{table}"].c[column]
    length = getattr(found.type, "length", None)
    return mark(found)[:length] in text
