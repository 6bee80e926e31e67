"""The runs that the calling code is part of: that of the tool that it belongs to, and those around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from worker.domain import Claim
from worker.errors import SessionOfThisRun
from worker.store import Database

_sessions: ContextVar[frozenset[tuple[str, str, str]]] = ContextVar("sessions", default=frozenset())


@contextmanager
def within(claim: Claim, database: Database) -> Iterator[None]:
    """Let the code of the block, its threads and its coroutines be part of a run."""
    token = _sessions.set(_sessions.get() | {(str(database.address), claim.user_id, claim.session_id)})
    try:
        yield
    finally:
        _sessions.reset(token)


def check_not_within(user_id: str, session_id: str | None, *, database: Database) -> None:
    """Refuse to wait for a run of a session from inside of a run in it: it would wait for itself.

    Raises:
        SessionOfThisRun
    """
    if session_id is not None and (str(database.address), user_id, session_id) in _sessions.get():
        raise SessionOfThisRun(session_id=session_id)
