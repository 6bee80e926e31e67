"""The teams of a worker: those in the module that TEAM_SESSIONS_TEAMS names."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from types import ModuleType

from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition
from worker.loop.user_loop import UserLoop
from worker.observe import logs
from worker.runnable import Runnable
from worker.settings import Settings
from worker.team import Team


def load_teams(settings: Settings) -> dict[str, Definition]:
    """Return the teams of the module by id; without a module, a plain team 'team' with history.

    An agent that is no team's member is served like a team. The module may be in the current directory.

    Raises:
        TeamsInvalid: it cannot be imported, has no team, or has two teams with the same id.
    """
    if settings.teams is None:
        return {"team": Team(add_history_to_context=True).definition}
    found = {id(value): value for value in vars(_module(settings.teams)).values() if isinstance(value, Runnable)}
    members = {id(member) for each in found.values() for member in _members(each.definition)}
    alone = [each for each in found.values() if isinstance(each, Team) or id(each.definition) not in members]
    served = [each.definition for each in alone]
    if not served:
        raise TeamsInvalid(module=settings.teams, problem="it has no Team in its namespace.")
    teams: dict[str, Definition] = {}
    for definition in served:
        if definition.id in teams:
            problem = f"it has two teams of id {definition.id!r}. Set another id=… for one of them."
            raise TeamsInvalid(module=settings.teams, problem=problem)
        teams[definition.id] = definition
    return teams


def _members(definition: Definition) -> Iterator[Definition]:
    for member in definition.members:
        yield member
        yield from _members(member)


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
        problem = f"its lifespan failed: {type(error).__name__}: {error}{_at(error)}"
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
        raise TeamsInvalid(module=name, problem=f"{error.message}{_at(error)}") from error
    except Exception as error:
        raise TeamsInvalid(module=name, problem=f"{type(error).__name__}: {error}{_at(error)}") from error


def _at(error: BaseException) -> str:
    """Return where the user's own code was, for the end of a sentence; '': it was not running."""
    position = logs.position_of_user(error)
    return f" ({position})" if position else ""
