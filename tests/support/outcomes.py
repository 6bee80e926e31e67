"""Execute runs and refresh summaries, and return the text that their tasks return."""

from datetime import datetime

from worker.process.runtime import Runtime
from worker.runs import execute as runs
from worker.runs.progress import Report
from worker.summaries import refresh as summaries


def execute(
    runtime: Runtime, run_id: str, team: str, *, sent_at: datetime | None = None, report: Report | None = None
) -> str:
    """Execute a run."""
    return str(runs.execute(runtime, run_id, team, sent_at=sent_at, report=report))


def refresh(runtime: Runtime, session_pk: int, team: str) -> str:
    """Refresh a summary."""
    return str(summaries.refresh(runtime, session_pk, team))
