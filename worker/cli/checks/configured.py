"""The settings, and the module of teams."""

from collections.abc import Iterator
from contextlib import suppress

from worker.cli.checks.finding import CLIENT, Finding, Installation, failed, ok, skipped, warning
from worker.environment import own_names
from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.settings import Settings, unknown_names
from worker.store import database_probe
from worker.store import teams as teams_of_workers
from worker.team_module import load_teams

PLAIN = "team"  # the team of workers without a module
MAX_NAMES = 5  # in one sentence


def settings(installation: Installation) -> Iterator[Finding]:
    """Find every mistake, and every unknown name."""
    for mistake in installation.mistakes.values():
        detail = f"{mistake[:1]}{mistake[1:].rstrip('.')}."
        yield failed("setting_invalid", detail, "Correct it, or unset it to use its default.")
    unknown = unknown_names(installation.environment)
    for sentence in unknown:
        yield warning("setting_unknown", sentence, "Correct the name, or unset it. It has no effect.")
    if not installation.mistakes and not unknown:
        count = len(own_names(installation.environment))
        yield ok(f"{count or 'No'} TEAM_SESSIONS_* {'is' if count == 1 else 'are'} set, and all can be read.")


def importable(settings: Settings) -> dict[str, Definition]:
    """Return what `load_teams` returns; a module that calls `sys.exit` is a mistake of the module.

    Raises:
        TeamSessionsError
    """
    try:
        return load_teams(settings)
    except SystemExit as error:
        raise TeamsInvalid(module=settings.teams, problem=f"it ends the program (SystemExit {error.code}).") from None


def teams(installation: Installation) -> Iterator[Finding]:
    """Check whether the module can be imported here, and name its teams."""
    module = installation.settings.teams
    if installation.is_client:
        yield CLIENT
        return
    try:
        names = ", ".join(sorted(importable(installation.settings)))
    except TeamSessionsError as error:
        advice = f"Correct the module. In the directory of the workers, this shows more: python -c 'import {module}'"
        yield failed("teams_invalid", " ".join(error.message.split()), advice)
        return
    others = [] if module else _other_teams(installation)
    if module:
        yield ok(f"{module} has {names}.")
    elif others:
        detail = f"TEAM_SESSIONS_TEAMS is not set in this terminal. Live workers serve {', '.join(others)}."
        yield skipped(f"{detail} To check their module and its models, set it as they have it.")
    else:
        yield ok("TEAM_SESSIONS_TEAMS is not set: workers started here serve the plain team 'team'.")


def _other_teams(installation: Installation) -> list[str]:
    """Return what live workers serve instead of the plain team; nothing if the database cannot be read."""
    file = database_probe.file_of(installation.settings.database)
    if file is not None and not file.exists():  # opening it would create it
        return []
    with suppress(*database_probe.FAILURES), installation.open_database() as db, db.read() as tx:
        live = [team.id for team in teams_of_workers.live(tx)]
        return live[:MAX_NAMES] if PLAIN not in live else []
    return []
