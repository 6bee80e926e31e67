"""Rows that hold something else than they should: lists show the others, and the odd one without what does not fit."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.support.life import accept, end, take
from worker.domain import SERVICE, Draft, Role, Status, ToolCall
from worker.runs.finish import Ending
from worker.store import Database, messages, runs, sessions
from worker.store.runs import RunFilters
from worker.store.sessions import SessionFilters

ODD = ['"abc"', "[1]", '{"a": 1}', "7", "null", '["urgent", {}, 3]']


def write(db: Database, table: str, column: str, value: str, where: str) -> None:
    """Write a value as another program does."""
    name = table if db.is_sqlite else f"team_sessions.{table}"
    with db.write() as tx:
        tx.execute(text(f"UPDATE {name} SET {column} = :value WHERE {where}"), {"value": value})


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("column", ["tags", "metadata", "state"])
def test_a_list_of_sessions_survives_an_odd_row(db: Database, column: str, value: str) -> None:
    """Each field has its type, and the filter for tags reads on."""
    for name in ("odd", "other"):
        accept(db, session=name)
    write(db, "sessions", column, value, "session_id = 'odd'")

    with db.read() as tx:
        found = [row for _, row in sessions.active(tx, SessionFilters(), principal=SERVICE, before=None, limit=9)]
        tagged = sessions.active(tx, SessionFilters(tag="urgent"), principal=SERVICE, before=None, limit=9)

    assert {row.session_id for row in found} == {"odd", "other"}
    assert all(all(isinstance(tag, str) for tag in row.tags) for row in found)
    assert all(isinstance(field, dict) for row in found for field in (row.metadata, row.state))
    assert [row.session_id for _, row in tagged] == (["odd"] if column == "tags" and "urgent" in value else [])


@pytest.mark.parametrize("value", ODD)
def test_a_list_of_runs_survives_an_odd_row(db: Database, value: str) -> None:
    """Its metadata is an object, and it can be claimed."""
    run_id = accept(db).run.id
    write(db, "runs", "metadata", value, "position = 1")
    write(db, "sessions", "state", value, "pk > 0")

    claim = take(db, run_id)
    with db.read() as tx:
        found = runs.page(tx, RunFilters(), principal=SERVICE, before=None, limit=9)

    assert [isinstance(run.metadata, dict) for run in found] == [True]
    assert isinstance(claim.state, dict)


@pytest.mark.parametrize("value", [*ODD, '[{"id": "c"}]', '[{"id": "c", "name": 1, "arguments": {}}]'])
def test_a_history_survives_an_odd_row(db: Database, value: str) -> None:
    """What is no call is left out."""
    claim = take(db, accept(db).run.id)
    call = Draft(Role.ASSISTANT, "t", "so far", (ToolCall("c", "look", "{}"),))
    end(db, claim, Ending(Status.COMPLETED, [call]))
    write(db, "messages", "tool_calls", value, "seq = 2")

    with db.read() as tx:
        page = messages.page(tx, session_pk=claim.session_pk, after_seq=0, limit=9)

    assert [(m.content, m.tool_calls) for m in page] == [("hello", ()), ("so far", ())]


def test_text_that_is_no_json_is_read_as_nothing(db: Database) -> None:
    """Only SQLite takes such a row."""
    if not db.is_sqlite:
        pytest.skip("Postgres refuses it")
    accept(db, session="odd")
    write(db, "sessions", "tags", "abc", "pk > 0")

    with db.read() as tx:
        filters: list[Any] = [SessionFilters(), SessionFilters(tag="abc")]
        found = [sessions.active(tx, f, principal=SERVICE, before=None, limit=9) for f in filters]

    assert [[row.tags for _, row in rows] for rows in found] == [[[]], []]
