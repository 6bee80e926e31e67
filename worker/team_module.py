"""The teams of a worker: those in the module that TEAM_SESSIONS_TEAMS names."""

import importlib
import os
import re
import sys

from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.settings import Settings
from worker.team import Team


def load_teams(settings: Settings) -> dict[str, Definition]:
    """Return the teams of the module by id; without a module, a plain team 'team' with history.

    The module may be in the current directory.

    Raises:
        TeamsInvalid: it cannot be imported, has no team, or has two teams with the same id.
    """
    if settings.teams is None:
        return {"team": Team(add_history_to_context=True).definition}
    if re.search(r"/|\\|\.py$", settings.teams):
        name = re.sub(r"\.py$", "", settings.teams).strip("./\\").replace("/", ".").replace("\\", ".")
        raise TeamsInvalid(module=settings.teams, problem=f"name the module as an import does, {name!r}.")
    if (here := os.getcwd()) not in sys.path:  # only now: files beside the teams must not hide packages that we use
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(settings.teams)
    except TeamSessionsError as error:
        raise TeamsInvalid(module=settings.teams, problem=error.message) from error
    except Exception as error:
        raise TeamsInvalid(module=settings.teams, problem=f"{type(error).__name__}: {error}") from error
    values = {id(value): value for value in vars(module).values() if isinstance(value, Team)}
    if not values:
        raise TeamsInvalid(module=settings.teams, problem="it has no Team in its namespace.")
    teams: dict[str, Definition] = {}
    for team in values.values():
        if team.id in teams:
            raise TeamsInvalid(module=settings.teams, problem=f"it has two teams of id {team.id!r}.")
        teams[team.id] = team.definition
    return teams
