"""The teams of a worker: those in the module that TEAM_SESSIONS_TEAMS names."""

import importlib
import os
import re
import sys
from types import ModuleType

from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.loop.user_loop import UserLoop
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
    values = {id(value): value for value in vars(_module(settings.teams)).values() if isinstance(value, Team)}
    if not values:
        raise TeamsInvalid(module=settings.teams, problem="it has no Team in its namespace.")
    teams: dict[str, Definition] = {}
    for team in values.values():
        if team.id in teams:
            raise TeamsInvalid(module=settings.teams, problem=f"it has two teams of id {team.id!r}.")
        teams[team.id] = team.definition
    return teams


def enter_lifespan(settings: Settings, user_loop: UserLoop) -> None:
    """Enter the `lifespan` of the module, if it has one: an async context manager that opens and closes its clients.

    It is entered on the event loop of the async tools, and left when that is closed.

    Raises:
        TeamsInvalid: it is something else, or it failed.
    """
    lifespan = None if settings.teams is None else getattr(_module(settings.teams), "lifespan", None)
    if lifespan is None:
        return
    try:
        user_loop.enter(lifespan)
    except Exception as error:
        problem = f"its lifespan failed: {type(error).__name__}: {error}"
        raise TeamsInvalid(module=settings.teams, problem=problem) from error


def _module(name: str) -> ModuleType:
    if re.search(r"/|\\|\.py$", name):
        right = re.sub(r"\.py$", "", name).strip("./\\").replace("/", ".").replace("\\", ".")
        raise TeamsInvalid(module=name, problem=f"name the module as an import does, {right!r}.")
    if (here := os.getcwd()) not in sys.path:  # only now: files beside the teams must not hide packages that we use
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except TeamSessionsError as error:
        raise TeamsInvalid(module=name, problem=error.message) from error
    except Exception as error:
        raise TeamsInvalid(module=name, problem=f"{type(error).__name__}: {error}") from error
