"""What a provider wants back with a reply is stored beside it, and read only for a context."""

from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.support.life import accept, end, take
from worker.domain import SERVICE, Draft, Extra, Message, Role, Status, ToolCall
from worker.domain.run import Viewpoint
from worker.privacy import export
from worker.runs.finish import Ending
from worker.store import Database, messages
from worker.store.tables import messages as rows

FIELDS = {"reasoning_details": [{"index": 0, "text": "Grüße \ud800 \x00"}], "n": 1.5}
EXTRA = Extra("m", "2f1a", FIELDS, cut_off=True)
CALLS = (ToolCall("a", "now", "{}", {"signature": "c2ln"}), ToolCall("b", "now", "{}"))


@pytest.fixture
def session_pk(db: Database) -> int:
    """A session with one run: its input, a reply with an extra, and a reply without."""
    run_id = accept(db, "hi").run.id
    claim = take(db, run_id)
    drafts = [Draft(Role.ASSISTANT, "t", "", CALLS, extra=EXTRA), Draft(Role.ASSISTANT, "t", "answer")]
    end(db, claim, Ending(Status.COMPLETED, drafts, output="answer", finish_reason="stop"))
    return claim.session_pk


def test_an_extra_is_read_for_every_kind_of_context(db: Database, session_pk: int) -> None:
    """A run that is taken over, and the history of a later one: the reply is as it was written."""
    bounds = messages.Bounds(9_999, text=9_999, result=9_999, least_of_result=99)
    last = {"session_pk": session_pk, "seen_from": Viewpoint(session_pk, 9, 9), "run_count": 3, "bounds": bounds}
    with db.read() as tx:
        histories = [
            messages.newest_that_fit(tx, session_pk=session_pk, since_seq=1, before_seq=9, bounds=bounds)[0],
            messages.newest_of_last(tx, **last, count=None)[0],
            messages.newest_of_last(tx, **last, count=3)[0],
        ]
        taken_over = messages.of_run(tx, session_pk=session_pk, first_seq=1, last_seq=3)
    read = [taken_over, *([excerpt.message for excerpt in history] for history in histories)]

    for log in read:
        assert [message.extra for message in log] == [None, EXTRA, None]
        assert [call.extra for call in log[1].tool_calls] == [{"signature": "c2ln"}, None]


def test_lists_do_not_read_an_extra(db: Database, session_pk: int) -> None:
    """A page of the API has 200 messages, and an extra can be as large as a megabyte."""
    with db.read() as tx:
        read: list[Message] = messages.page(tx, session_pk=session_pk, after_seq=0, limit=10)

    assert len(read) == 3
    assert [message.extra for message in read] == [None] * 3


def test_an_export_has_the_extra(db: Database, session_pk: int) -> None:
    """It is data of the user's conversation."""
    lines = [line for line in export(db, "u", principal=SERVICE) if line["type"] == "message"]

    assert [line["extra"] and line["extra"]["fields"] for line in lines] == [None, FIELDS, None]


def test_a_reply_of_an_older_process_has_none(db: Database, session_pk: int) -> None:
    """An older process does not name the column."""
    with db.write() as tx:
        row: dict[str, Any] = dict(tx.execute(select(rows).where(rows.c.seq == 3)).one()._mapping)
        del row["extra"]
        tx.execute(insert(rows).values(**row | {"seq": 4}))
        log = messages.of_run(tx, session_pk=session_pk, first_seq=4, last_seq=4)

    assert [message.extra for message in log] == [None]
