"""The runs that the calling code is part of: that of the tool that it belongs to, and those around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from worker.domain import Claim
from worker.errors import SessionOfThisRun
from worker.store import Database

_sessions: ContextVar[tuple[tuple[Database, str, str], ...]] = ContextVar("sessions", default=())


@contextmanager
def within(claim: Claim, database: Database) -> Iterator[None]:
    """Let the code of the block, its threads and its coroutines be part of a run."""
    token = _sessions.set((*_sessions.get(), (database, claim.user_id, claim.session_id)))
    try:
        yield
    finally:
        _sessions.reset(token)


def check_not_within(user_id: str, session_id: str | None, *, database: Database) -> None:
    """Refuse to wait for a run of a session from inside of a run in it: it would wait for itself.

    Raises:
        SessionOfThisRun
    """
    for other, *session in _sessions.get():
        if session == [user_id, session_id] and database.is_same(other):
            raise SessionOfThisRun(session_id=session_id)
