"""The workers: whether every queue has one, and every team; and which fell silent."""

from collections.abc import Iterator, Sequence

from worker.cli.checks.configured import importable
from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError
from worker.queue.app import BACKGROUND, QUEUES, RUNS
from worker.store import stuck, teams
from worker.store.engine import Database
from worker.store.stuck import Silent
from worker.store.teams import Served

RECENTLY_S = 600.0  # a worker that fell silent longer ago was replaced, or nobody misses it
MOST = 5  # names in one sentence


def look(installation: Installation) -> Iterator[Finding]:
    """Everything that workers have said of themselves."""
    db = Database(installation.settings.database, pool_size=1)
    try:
        with db.read() as tx:
            live = teams.live(tx)
            silent = stuck.silent_workers(tx, within_s=RECENTLY_S)
    finally:
        db.close()
    consumed = {queue for team in live for queue in team.queues}
    troubles = [*_queues(consumed), *_teams(installation, live), *_versions(live), *_silent(silent)]
    if not live:
        troubles = [_none(), *_silent(silent)]
    names = ", ".join(team.id for team in live[:MOST]) + (", …" if len(live) > MOST else "")
    yield from troubles or [ok(f"Every queue is consumed; live workers serve {names}.")]


def _none() -> Finding:
    advice = "Start 'team-sessions up', or 'team-sessions worker' twice: as it is, and with --queues " + _joined(
        BACKGROUND
    )
    return failed("workers_missing", "No live worker is known: no run is executed.", advice)


def _queues(consumed: set[str]) -> Iterator[Finding]:
    for together, finding in ((RUNS, failed), (BACKGROUND, warning)):
        if missing := [queue for queue in QUEUES if queue in together and queue not in consumed]:
            named = ", ".join(map(repr, missing))
            detail = f"No live worker consumes the queue{'s' if len(missing) > 1 else ''} {named}."
            yield finding("queue_not_consumed", detail, f"Start 'team-sessions worker --queues {_joined(together)}'.")


def _teams(installation: Installation, live: Sequence[Served]) -> Iterator[Finding]:
    """The teams of the module that is set here, if it can be imported here."""
    try:
        ours = importable(installation.settings) if installation.settings.teams else {}
    except TeamSessionsError:
        return
    if missing := sorted(ours.keys() - {team.id for team in live}):
        detail = f"No live worker serves {', '.join(map(repr, missing[:MOST]))} of {installation.settings.teams}."
        yield warning("team_not_served", detail, "Restart the workers, with the same TEAM_SESSIONS_TEAMS.")


def _versions(live: Sequence[Served]) -> Iterator[Finding]:
    for team in live:
        if len(team.versions) > 1:
            detail = f"Workers serve {team.id!r} in {len(team.versions)} versions."
            yield warning(
                "team_versions", detail, "If no deploy is under way, restart the workers that were left behind."
            )


def _silent(silent: Sequence[Silent]) -> Iterator[Finding]:
    for one in silent[:MOST]:
        host, pid, _ = one.worker.rsplit(":", 2) if one.worker.count(":") > 1 else (one.worker, "?", "")
        detail = f"The worker of process {pid} on {host!r} has been silent for {one.silent_s:.0f} s."
        advice = (
            "If it was killed, this goes by itself. If it lives, it is frozen or cut off from the database: end it."
        )
        yield warning("worker_silent", detail, advice)


def _joined(queues: Sequence[str]) -> str:
    return ",".join(queues)
