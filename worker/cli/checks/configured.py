"""The settings, and the module of teams."""

from collections.abc import Iterator

from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.settings import PREFIX, Settings, unknown_names
from worker.team_module import load_teams


def settings(installation: Installation) -> Iterator[Finding]:
    """Find every mistake, and every unknown name."""
    for mistake in installation.mistakes.values():
        detail = f"{mistake[:1]}{mistake[1:].rstrip('.')}."
        yield failed("setting_invalid", detail, "Correct it, or unset it to use its default.")
    unknown = unknown_names(installation.environment)
    for sentence in unknown:
        yield warning("setting_unknown", sentence, "Correct the name, or unset it. It has no effect.")
    if not installation.mistakes and not unknown:
        count = sum(name.startswith(PREFIX) for name in installation.environment)
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
    try:
        names = ", ".join(sorted(importable(installation.settings)))
    except TeamSessionsError as error:
        advice = f"Correct the module. In the directory of the workers, this shows more: python -c 'import {module}'"
        yield failed("teams_invalid", " ".join(error.message.split()), advice)
        return
    yield ok(f"{module} has {names}." if module else "The plain team 'team' is served: TEAM_SESSIONS_TEAMS is not set.")
