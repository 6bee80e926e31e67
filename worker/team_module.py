"""Which teams a worker serves: those in the module that TEAM_SESSIONS_TEAMS names."""

import importlib
import re

from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.settings import Settings
from worker.team import Team


def load_teams(settings: Settings) -> dict[str, Definition]:
    """Return the teams of the module by id; without one, a plain team 'team' that remembers.

    Raises:
        TeamsInvalid: it does not import, holds no team, or two of one id.
    """
    if settings.teams is None:
        return {"team": Team(add_history_to_context=True).definition}
    if re.search(r"/|\\|\.py$", settings.teams):
        name = re.sub(r"\.py$", "", settings.teams).strip("./\\").replace("/", ".").replace("\\", ".")
        raise TeamsInvalid(module=settings.teams, problem=f"name the module as an import does, {name!r}.")
    try:
        module = importlib.import_module(settings.teams)
    except TeamSessionsError as error:
        raise TeamsInvalid(module=settings.teams, problem=error.message) from error
    except Exception as error:
        raise TeamsInvalid(module=settings.teams, problem=f"{type(error).__name__}: {error}") from error
    found = {id(value): value for value in vars(module).values() if isinstance(value, Team)}
    if not found:
        raise TeamsInvalid(module=settings.teams, problem="it has no Team in its namespace.")
    teams: dict[str, Definition] = {}
    for team in found.values():
        if team.id in teams:
            raise TeamsInvalid(module=settings.teams, problem=f"it has two teams of id {team.id!r}.")
        teams[team.id] = team.definition
    return teams
