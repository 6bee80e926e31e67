"""When a summary is due, and how it is asked for."""

from worker.domain.dispatch import Dispatch, of_summary
from worker.domain.summary import CHARS_PER_TOKEN, Due, SessionSummaryManager
from worker.settings import Settings
from worker.store import sessions, summaries, summary_jobs
from worker.store.engine import Transaction
from worker.store.sessions import Moved


def threshold(manager: SessionSummaryManager, settings: Settings) -> Due:
    """Return how much unsummarised history the team takes; the settings say what its manager does not."""
    messages = manager.due_messages if manager.due_messages is not None else settings.summary_due_messages
    tokens = manager.due_tokens if manager.due_tokens is not None else settings.summary_due_tokens
    return Due(messages, tokens * CHARS_PER_TOKEN)


def passed(due: Due | None, messages: int, size: int) -> bool:
    """Tell whether so many messages, with so many characters, behind a summary make the next one due."""
    return due is not None and messages > 0 and (messages >= due.messages or size >= due.size)


def decide(
    tx: Transaction, session_pk: int, session: Moved, *, session_id: str, team: str, through_seq: int
) -> tuple[Dispatch, ...]:
    """Ask for a refresh if one is due, now that the history is finished through *through_seq*.

    In the transaction that ends a run, under the session's lock: so it is neither lost nor asked for twice. Returns
    what is to be sent after the commit.
    """
    if session.due is None or not passed(session.due, through_seq - session.summary_seq, session.unsummarised):
        return ()
    reached = {"covers_seq": session.summary_seq, "through_seq": through_seq}
    if not summary_jobs.want_due(tx, session_pk, **reached, step=session.due.messages):
        return ()
    return (of_summary(session_pk, session_id=session_id, team=team, version=session.summary_version),)


def request(
    tx: Transaction, session_pk: int, *, session_id: str, team: str, rebuild: bool = False
) -> tuple[Dispatch, ...]:
    """Ask for a refresh now, whether one is due or not; nothing, if the summary covers all that is finished.

    With *rebuild* it is made anew from the first message, whatever it covers; nothing, if no message is finished. A
    refresh that is wanted already becomes a rebuild. One that is a rebuild already goes on with what it has, unless
    the team's prompt or model has changed since.
    """
    sessions.lock(tx, session_pk)
    base = summaries.base(tx, session_pk)
    if base is None or base.finished_seq <= (0 if rebuild else base.covers_seq):
        return ()
    summary_jobs.want_now(tx, session_pk, through_seq=base.finished_seq, rebuild=rebuild)
    return (of_summary(session_pk, session_id=session_id, team=team, version=base.version),)
