"""The workers: whether every queue and every team has one, and which are silent."""

from collections.abc import Iterator, Sequence

from worker.cli.checks.configured import importable
from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError
from worker.queue.app import BACKGROUND, QUEUES, RUNS
from worker.store import stuck, teams
from worker.store.stuck import Silent
from worker.store.teams import Served

RECENTLY_S = 600.0  # a worker that has been silent for longer was replaced, or is not needed
MAX_NAMES = 5  # in one sentence


def check(installation: Installation) -> Iterator[Finding]:
    """Check what workers have announced about themselves."""
    with installation.open_database() as db, db.read() as tx:
        live = teams.live(tx)
        silent = stuck.silent_workers(tx, within_s=RECENTLY_S)
    if not live:
        advice = "Start 'team-sessions up', or two workers: 'team-sessions worker', and a second one with --queues "
        yield failed("workers_missing", "No live worker is known: no run is executed.", advice + ",".join(BACKGROUND))
        yield from _silent(silent)
        return
    consumed = {queue for team in live for queue in team.queues}
    findings = [*_queues(consumed), *_teams(installation, live), *_versions(live), *_silent(silent)]
    names = ", ".join(team.id for team in live[:MAX_NAMES]) + (", …" if len(live) > MAX_NAMES else "")
    yield from findings or [ok(f"Every queue is consumed; live workers serve {names}.")]


def _queues(consumed: set[str]) -> Iterator[Finding]:
    for group, finding in ((RUNS, failed), (BACKGROUND, warning)):
        if missing := [queue for queue in QUEUES if queue in group and queue not in consumed]:
            names = ", ".join(map(repr, missing))
            detail = f"No live worker consumes the queue{'s' if len(missing) > 1 else ''} {names}."
            yield finding("queue_not_consumed", detail, f"Start 'team-sessions worker --queues {','.join(group)}'.")


def _teams(installation: Installation, live: Sequence[Served]) -> Iterator[Finding]:
    """Check the teams of the module that is set here, if it can be imported here."""
    module = installation.settings.teams
    try:
        expected = importable(installation.settings) if module else {}
    except TeamSessionsError:
        return
    if missing := sorted(expected.keys() - {team.id for team in live}):
        detail = f"No live worker serves {', '.join(map(repr, missing[:MAX_NAMES]))} of {module}."
        yield warning("team_not_served", detail, "Restart the workers, with the same TEAM_SESSIONS_TEAMS.")


def _versions(live: Sequence[Served]) -> Iterator[Finding]:
    for team in live:
        if len(team.versions) > 1:
            detail = f"Workers serve {team.id!r} in {len(team.versions)} versions."
            yield warning("team_versions", detail, "If no deploy is in progress, restart the workers that are older.")


def _silent(silent: Sequence[Silent]) -> Iterator[Finding]:
    for worker in silent[:MAX_NAMES]:
        host, pid, _ = worker.worker.rsplit(":", 2) if worker.worker.count(":") > 1 else (worker.worker, "?", "")
        detail = f"The worker of process {pid} on {host!r} has been silent for {worker.silent_s:.0f} s."
        advice = "If it was killed, do nothing. If it still runs, it is frozen or cut off from the database: end it."
        yield warning("worker_silent", detail, advice)
