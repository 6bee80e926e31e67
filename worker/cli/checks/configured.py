"""The settings, and the module of teams."""

from collections.abc import Iterator

from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.settings import PREFIX, Settings, unknown_names
from worker.team_module import load_teams


def settings(installation: Installation) -> Iterator[Finding]:
    """Every mistake, and every name that is none of ours."""
    for mistake in installation.mistakes.values():
        detail = f"{mistake[:1]}{mistake[1:].rstrip('.')}."
        yield failed("setting_invalid", detail, "Correct it, or unset it: its default holds then.")
    unknown = unknown_names(installation.environment)
    for sentence in unknown:
        yield warning("setting_unknown", sentence, "Correct the name, or unset it. It has no effect as it is.")
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
    """Whether the module can be imported here, and what it serves."""
    module = installation.settings.teams
    try:
        found = importable(installation.settings)
    except TeamSessionsError as error:
        where = f"Mend the module: python -c 'import {module}' tells more, from the directory in which workers start."
        yield failed("teams_invalid", " ".join(error.message.split()), where)
        return
    names = ", ".join(sorted(found))
    yield ok(f"{module} has {names}." if module else "The plain team 'team' is served: TEAM_SESSIONS_TEAMS is not set.")
