"""`Team`: a definition, and how those that a worker serves are found."""

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from worker.domain.chat import ChatModel
from worker.domain.text import check_id
from worker.errors import TeamSessionsError, TeamsInvalid
from worker.loop.definition import Definition, Limits
from worker.loop.tools import Tool, as_tool
from worker.settings import Settings


class Team:
    """A leader with its instructions and tools.

    Args:
        id: by which runs name it; by default a slug of its name, else 'team'.
        name: for people.
        model: the leader's; by default the one that TEAM_SESSIONS_MODEL names.
        instructions: what the leader is told first, one text or several lines.
        tools: functions that the leader may call.
        add_history_to_context: whether each call is sent the session's last runs.
        num_history_runs: how many finished runs that are.
        limits: what one run may use.
        version: of the definition; by default a hash of it.
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        name: str | None = None,
        model: ChatModel | None = None,
        members: Sequence[object] = (),
        instructions: str | Sequence[str] = (),
        tools: Sequence[Tool | Callable[..., Any]] = (),
        add_history_to_context: bool = False,
        num_history_runs: int = 3,
        limits: Limits | None = None,
        version: str | None = None,
    ) -> None:
        if members:
            raise ValueError("A team with members cannot be executed yet. Leave members out, or empty.")
        if num_history_runs < 0:
            raise ValueError(f"num_history_runs is {num_history_runs}. Expected 0 or more.")
        names = [t.name for t in map(as_tool, tools)]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"Two tools are named {doubled[0]!r}. Give each tool a name of its own.")
        self.id = check_id(id or _slug(name or "") or "team", field="id")
        self.name = name or self.id
        definition = Definition(
            id=self.id,
            name=self.name,
            model=model,
            instructions=(instructions,) if isinstance(instructions, str) else tuple(instructions),
            tools=tuple(as_tool(t) for t in tools),
            add_history_to_context=add_history_to_context,
            num_history_runs=num_history_runs,
            limits=limits or Limits(),
        )
        self.definition = definition.with_version(version)

    def __repr__(self) -> str:
        return f"Team(id={self.id!r})"


def served(settings: Settings) -> dict[str, Definition]:
    """Return the teams of the module that TEAM_SESSIONS_TEAMS names, by id; without one, a plain team 'team'.

    Raises:
        TeamsInvalid: it does not import, holds no team, or two of one id.
    """
    if settings.teams is None:
        return {"team": Team(add_history_to_context=True).definition}
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


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
