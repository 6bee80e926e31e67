"""Rebuilt summaries, for tests: a long history with an old summary, and processes that condense small pieces."""

from collections.abc import Callable

from tests.support.condensing import (
    NEVER,
    condensed_messages,
    formed,
    long_history,
    team,
)
from tests.support.outcomes import refresh
from worker import ScriptedModel
from worker.domain import ChatModel, ChatRequest, Due
from worker.process.runtime import Runtime
from worker.store import Database
from worker.summaries import due

Start = Callable[..., Runtime]
PIECE = 100  # tokens: of `long_history` one run


def request_rebuild(db: Database, session_pk: int) -> int:
    """Request a rebuild of the summary; return how many dispatches this makes ready."""
    with db.write() as tx:
        return len(due.request(tx, session_pk, session_id="s", team="t", rebuild=True))


def summarised(db: Database, process: Start, *, runs: int, limit: Due = NEVER) -> int:
    """Make a history whose summary covers all of it, in one version of an old prompt."""
    session_pk = long_history(db, pieces=runs, due=limit)
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t")
    old = team(ScriptedModel([formed("old")]), "old prompt")
    assert refresh(process(old, summary_piece_tokens=12_000), session_pk, "t") == "1 new"
    return session_pk


def slowly(process: Start, model: ChatModel, prompt: str = "new prompt") -> Runtime:
    """A process whose pieces are one run each."""
    return process(team(model, prompt), summary_piece_tokens=PIECE)


def sent_messages(*requests: ChatRequest) -> list[str]:
    """Return the texts that the model was sent, in order."""
    return [text for request in requests for text in condensed_messages(request)]


def all_of(runs: int) -> list[str]:
    """Return all texts of a long history."""
    return [text for n in range(runs) for text in (f"input {n}", f"answer {n}")]
