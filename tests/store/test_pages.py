"""A page of a list is bounded in bytes, on both databases: large rows are read a few at a time, and all of them."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.support.crowd import crowd
from worker.domain import SERVICE, Message, SessionRow
from worker.store import Database, Page, RunFilters, messages, pages, runs, sessions, tables, users
from worker.store.columns import db_time
from worker.store.sessions import SessionFilters

ROWS, LARGE = 12, pages.PAGE_BYTES // 8
PERHAPS = [0, 1, 5, 11]  # a few of the rows are small


def text(n: int) -> str:
    """A large text, of which each character takes two bytes, or a small one."""
    return "small" if n in PERHAPS else "ö" * (LARGE // 2)


@pytest.fixture
def filled(db: Database) -> Database:
    """One session of twelve runs and as many messages, and eleven others; most of all that is large."""
    crowd(db, users=ROWS, each=1, runs_each=1)
    with db.write() as tx:
        for n in range(ROWS):
            of_run = (tables.runs.c.session_pk == n + 1,)
            tx.execute(
                update(tables.runs).where(*of_run).values(session_pk=1, position=n + 1, input=text(n), output="o")
            )
            changed = {"metadata": {"a": text(n)[: LARGE // 4]}, "state": {"b": text(n)[: LARGE // 4]}}
            tx.execute(update(tables.sessions).where(tables.sessions.c.pk == n + 1).values(**changed))
            row = {"session_pk": 1, "seq": n + 1, "run_id": "r", "role": "user", "author": "u", "content": text(n)}
            tx.execute(insert(tables.messages).values(**row, created_at=db_time()))
    return db


def of_runs(tx: Any, last: Any, limit: int) -> Page[Any]:
    return runs.of_session(tx, 1, before=last and last.position, limit=limit)


def of_listed_runs(tx: Any, last: Any, limit: int) -> Page[Any]:
    return runs.page(tx, RunFilters(), principal=SERVICE, before=last and last.id, limit=limit)


def of_messages(tx: Any, last: Message | None, limit: int) -> Page[Any]:
    return messages.page(tx, session_pk=1, after_seq=last.seq if last else 0, limit=limit)


def of_sessions(tx: Any, last: tuple[int, SessionRow] | None, limit: int) -> Page[Any]:
    before = last and (last[1].updated_at, last[0])
    return sessions.active(tx, SessionFilters(), principal=SERVICE, before=before, limit=limit)


def of_export(tx: Any, last: dict[str, Any] | None, limit: int) -> Page[Any]:
    return users.rows(tx, tables.runs.c.position, 1, after=last["position"] if last else 0, limit=limit)


@pytest.mark.parametrize("read", [of_runs, of_listed_runs, of_messages, of_sessions, of_export])
def test_a_page_ends_early_and_the_list_goes_on(filled: Database, read: Any) -> None:
    """No page is larger than its bound, each has a row, and the pages together have every row once, in order."""
    found: list[Page[Any]] = []
    while not found or found[-1].more:
        with filled.read() as tx:
            found.append(read(tx, found[-1][-1] if found else None, 200))

    names = [repr(row)[:60] if not isinstance(row, tuple) else row[0] for page in found for row in page]
    assert len(names) == len(set(names)) == ROWS
    assert 1 < len(found) < ROWS
    for page in found:
        assert len(repr(list(page)).encode()) < 1.2 * pages.PAGE_BYTES
    with filled.read() as tx:
        assert [len(read(tx, None, 1)), read(tx, None, 1).more, read(tx, None, 0).more] == [1, True, True]


def test_one_row_larger_than_a_page_is_a_page(db: Database) -> None:
    """What is there is shown, however large it was made by an earlier release."""
    crowd(db, users=3, each=1, runs_each=1)
    with db.write() as tx:
        tx.execute(update(tables.sessions).values(state={"a": "x" * (pages.PAGE_BYTES + 1)}))

    with db.read() as tx:
        page = sessions.active(tx, SessionFilters(), principal=SERVICE, before=None, limit=200)

    assert (len(page), page.more, len(page[0][1].state["a"])) == (1, True, pages.PAGE_BYTES + 1)


def test_pages_in_a_row_read_all(filled: Database) -> None:
    """Whoever reads page by page, as an export does, gets every row although no page is full."""

    def read(tx: Any, after: int, limit: int) -> Page[Message]:
        return messages.page(tx, session_pk=1, after_seq=after, limit=limit)

    found = list(filled.pages(read, key=lambda message: message.seq, after=0, limit=200))

    assert [message.seq for page in found for message in page] == list(range(1, ROWS + 1))
    assert len(found) > 1
