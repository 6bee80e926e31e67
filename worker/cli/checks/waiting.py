"""What waits too long: runs that no worker executes, and summaries that failed."""

import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.store import stuck, teams

LONG_S = 60.0


def runs(installation: Installation) -> Iterator[Finding]:
    """Find runs that could be executed, and are not."""
    with installation.open_database() as db, db.read() as tx:
        waiting = stuck.waiting_runs(tx)
        queued = stuck.queued_by_team(tx)
        unattended = stuck.unattended(tx)
        served = {team.id for team in teams.live(tx)}
    findings = []
    for team, count in Counter(queued).most_common():
        if team in served:
            continue
        detail = f"{_runs(count)} for team {team!r}, which no live worker serves."
        cancel = f"team-sessions runs cancel --team {shlex.quote(team)}"
        advice = f"Start a worker whose TEAM_SESSIONS_TEAMS has it, or cancel them: {cancel}"
        findings.append(failed("runs_of_unserved_team", detail, advice))
    if unattended:
        detail = f"{_runs(unattended)} for a worker that is gone, and no other worker has taken over."
        findings.append(failed("runs_unattended", detail, "Start a worker that consumes the queue 'resumed'."))
    late = next((run for run in waiting if run.team in served and run.waits_s >= LONG_S), None)
    if late is not None:
        waits = timedelta(seconds=round(late.waits_s))
        detail = f"Run {late.run_id!r} has been ready for {waits}, and is not executed."
        advice = f"team-sessions why {late.run_id}. If every slot is in use: more workers, or a higher --concurrency."
        findings.append(warning("run_waits_long", detail, advice))
    yield from findings or [ok(f"None waits longer than {LONG_S:g} s for a worker.")]


def summaries(installation: Installation) -> Iterator[Finding]:
    """Find refreshes that failed."""
    with installation.open_database() as db, db.read() as tx:
        failures = stuck.failed_summaries(tx)
    for code, count in sorted(failures.items()):
        detail = f"{count} could not be refreshed ({code}); runs use the previous version."
        advice = "See the log of the worker for 'summaries'. Then: team-sessions batches create refresh_summaries."
        yield warning("summaries_failed", detail, advice)
    if not failures:
        yield ok("None has failed.")


def _runs(count: int) -> str:
    text = f"{count:,} runs wait" if count > 1 else "1 run waits"
    return f"At least {text}" if count >= stuck.MOST else text
