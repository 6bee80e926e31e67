"""What waits longer than it should: runs that nobody executes, summaries that failed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.store import overdue, teams
from worker.store.engine import Database, Transaction
from worker.store.ready import SILENT_S

LONG_S = 60.0


def runs(installation: Installation) -> Iterator[Finding]:
    """Runs that could be executed, and are not."""
    with _reading(installation) as tx:
        ready = overdue.ready_runs(tx)
        left = overdue.unattended(tx)
        served = {team.id for team in teams.live(tx, silent_s=SILENT_S)}
    troubles = []
    for team, count in Counter(run.team for run in ready if run.team not in served).most_common():
        detail = f"{_runs(count)} for team {team!r}, which no live worker serves."
        advice = "Start a worker whose TEAM_SESSIONS_TEAMS has it, or cancel them: team-sessions runs cancel ID."
        troubles.append(failed("runs_of_unserved_team", detail, advice))
    if left:
        detail = f"{_runs(left)} on a worker that is gone, and nobody has taken them over."
        troubles.append(failed("runs_unattended", detail, "Start a worker that consumes the queue 'resumed'."))
    late = next((run for run in ready if run.team in served and run.waits_s >= LONG_S), None)
    if late is not None:
        detail = (
            f"Run {late.run_id!r} has been ready for {timedelta(seconds=round(late.waits_s))}, and is not executed."
        )
        advice = f"team-sessions why {late.run_id}. If every slot is taken: more workers, or a higher --concurrency."
        troubles.append(warning("run_waits_long", detail, advice))
    yield from troubles or [ok(f"None waits longer than {LONG_S:g} s for a worker.")]


def summaries(installation: Installation) -> Iterator[Finding]:
    """Refreshes that failed."""
    with _reading(installation) as tx:
        found = overdue.failed_summaries(tx)
    for code, count in sorted(found.items()):
        detail = f"{count} could not be refreshed ({code}); runs go on with the version before."
        advice = "See the log of the worker for 'summaries'. Then: team-sessions batches create refresh_summaries."
        yield warning("summaries_failed", detail, advice)
    if not found:
        yield ok("None has failed.")


@contextmanager
def _reading(installation: Installation) -> Iterator[Transaction]:
    db = Database(installation.settings.database, pool_size=1)
    try:
        with db.read() as tx:
            yield tx
    finally:
        db.close()


def _runs(count: int) -> str:
    many = f"{count:,} runs wait" if count > 1 else "1 run waits"
    return f"At least {many}" if count >= overdue.MOST else many
