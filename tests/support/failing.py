"""A database that fails at chosen commits, before or after they happened, and for as many tries as a test wants."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from worker.store import Database

Moment = Literal["before", "after"]


@dataclass
class Commits:
    """The commits of a database, counted from 1. `failed` are those that failed so far."""

    seen: int = 0
    failed: int = 0


@contextmanager
def failing(db: Database, *, at: int, moment: Moment, then: int = 0) -> Iterator[Commits]:
    """Fail commit number *at*, before it happens or after; then fail *then* more tries at their begin."""
    commits = Commits()
    down = 0

    def commit(connection: Connection) -> None:
        nonlocal down
        commits.seen += 1
        if commits.seen == at:
            commits.failed += 1
            down = then
            if moment == "after":
                driver: Any = connection.connection.dbapi_connection
                driver.commit()
            raise OperationalError("COMMIT", None, ConnectionError("the answer is lost"))

    def begin(_connection: Connection) -> None:
        nonlocal down
        if down:
            down -= 1
            commits.failed += 1
            raise OperationalError("BEGIN", None, ConnectionError("the database is away"))

    event.listen(db.engine, "commit", commit)
    event.listen(db.engine, "begin", begin, insert=True)
    try:
        yield commits
    finally:
        event.remove(db.engine, "commit", commit)
        event.remove(db.engine, "begin", begin)
