"""What is sent through the broker: ids of a run or a summary, and no message text."""

from dataclasses import dataclass
from datetime import datetime

from worker.domain.run import Priority


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One task to be sent to a queue after a commit. `sent_at` is the time of sending in the row of a run."""

    task: str
    task_id: str
    queue: str
    ids: dict[str, str | int]
    sent_at: datetime | None = None


def queue_of(*, attempt: int, priority: Priority = Priority.INTERACTIVE) -> str:
    """Return the queue of a ready run.

    Runs that were started before go to `resumed`, which workers ask first; background runs to `batch`.
    """
    if priority is Priority.BACKGROUND:
        return "batch"
    return "resumed" if attempt else "runs"


def run_dispatch(
    run_id: str,
    *,
    session_id: str,
    team: str,
    attempt: int,
    sent_at: datetime,
    priority: Priority = Priority.INTERACTIVE,
) -> Dispatch:
    """Return the dispatch of a ready run that was claimed *attempt* times."""
    ids: dict[str, str | int] = {"run_id": run_id, "session_id": session_id, "team": team}
    queue = queue_of(attempt=attempt, priority=priority)
    return Dispatch("runs.execute", f"{run_id}.{attempt + 1}", queue, ids, sent_at)


def summary_dispatch(session_pk: int, *, session_id: str, team: str, version: int) -> Dispatch:
    """Return the dispatch of a due summary of a session whose current summary has version *version*."""
    ids: dict[str, str | int] = {"session_pk": session_pk, "session_id": session_id, "team": team}
    return Dispatch("summaries.refresh", f"summary_{session_pk}.{version + 1}", "summaries", ids)
