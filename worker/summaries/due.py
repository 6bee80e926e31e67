"""When a summary is due, and how a refresh is requested."""

from worker.domain import CHARS_PER_TOKEN, Dispatch, Due, SessionSummaryManager, summary_dispatch
from worker.settings import Settings
from worker.store import Transaction, sessions, summaries, summary_jobs
from worker.store.sessions import MovedHead


def threshold(manager: SessionSummaryManager, settings: Settings) -> Due:
    """Return the team's threshold. What its manager leaves out comes from the settings."""
    messages = manager.due_messages if manager.due_messages is not None else settings.summary_due_messages
    tokens = manager.due_tokens if manager.due_tokens is not None else settings.summary_due_tokens
    return Due(messages, tokens * CHARS_PER_TOKEN)


def is_due(due: Due | None, messages: int, size: int) -> bool:
    """Return whether this many messages, of *size* characters, after a summary make the next one due."""
    return due is not None and messages > 0 and (messages >= due.messages or size >= due.size)


def decide(
    tx: Transaction, session_pk: int, session: MovedHead, *, session_id: str, team: str, through_seq: int
) -> tuple[Dispatch, ...]:
    """Request a refresh if one is due, now that the history is finished through *through_seq*.

    Runs in the transaction that ends a run, under the session's lock: a refresh is neither lost nor requested twice.
    Returns what to send after the commit.
    """
    if not is_due(session.due, through_seq - session.covers_through_seq, session.unsummarised) or session.due is None:
        return ()
    requested = summary_jobs.request_if_due(
        tx,
        session_pk,
        covers_through_seq=session.covers_through_seq,
        through_seq=through_seq,
        step=session.due.messages,
    )
    if not requested:
        return ()
    return (summary_dispatch(session_pk, session_id=session_id, team=team, version=session.summary_version),)


def request(
    tx: Transaction, session_pk: int, *, session_id: str, team: str, rebuild: bool = False
) -> tuple[Dispatch, ...]:
    """Request a refresh now, due or not; do nothing if the summary covers all finished messages.

    With *rebuild* the summary is made again from the first message, even if it covers all; nothing happens if no
    message is finished. A waiting refresh becomes a rebuild. A rebuild that has started continues its draft, unless
    the team's prompt or model has changed since.
    """
    sessions.lock(tx, session_pk)
    base = summaries.base(tx, session_pk)
    if base is None or base.finished_seq <= (0 if rebuild else base.covers_through_seq):
        return ()
    summary_jobs.request_now(tx, session_pk, through_seq=base.finished_seq, rebuild=rebuild)
    return (summary_dispatch(session_pk, session_id=session_id, team=team, version=base.version),)
