"""`Agent`, and the validation of definitions: all mistakes are collected, and named at once."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from worker.domain import ChatModel, bounds, check_id
from worker.errors import DefinitionInvalid, TeamSessionsError, ToolNotDescribable
from worker.loop import delegation, history_tools
from worker.loop.definition import Definition
from worker.loop.tools import Tool, as_tool

AnyTool = Tool | Callable[..., Any]
BUILT_IN = {delegation.NAME, *(t.name for t in history_tools.ALL)}


class Agent:
    """A member of a team: a model with its own role, instructions and tools.

    Args:
        id: leaders delegate to it by this id; by default a slug of its name.
        name: for people and for the model.
        role: what it is good at, in a sentence for its leader.
        model: by default that of its team.
        instructions: its system prompt, one text or several lines.
        tools: functions that it may call.

    Raises:
        DefinitionInvalid: it names every mistake.
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        name: str | None = None,
        role: str = "",
        model: ChatModel | None = None,
        instructions: str | Sequence[str] = (),
        tools: Sequence[AnyTool] = (),
    ) -> None:
        mistakes: list[str] = []
        self.id = checked_id(id, name, "agent", mistakes)
        self.name = name or self.id
        self.definition = Definition(
            id=self.id,
            name=self.name,
            role=role,
            model=model,
            instructions=lines(instructions),
            tools=checked_tools(tools, mistakes),
        )
        raise_if_any(f"agent {self.id!r}", mistakes)

    def __repr__(self) -> str:
        return f"Agent(id={self.id!r})"


def checked_id(id: str | None, name: str | None, default: str, mistakes: list[str]) -> str:
    """Return *id*, or a slug of *name*, or *default*; add what is wrong to *mistakes*."""
    if name is not None and not isinstance(name, str):
        mistakes.append(f"name is {name!r}; expected text")
        name = None
    result = id or re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-") or default
    try:
        return check_id(result, field="id")
    except TeamSessionsError as error:
        mistakes.append(error.message)
        return default


def lines(instructions: str | Sequence[str]) -> tuple[str, ...]:
    """Return instructions as lines."""
    return (instructions,) if isinstance(instructions, str) else tuple(instructions)


def checked_tools(tools: Sequence[AnyTool], mistakes: list[str]) -> tuple[Tool, ...]:
    """Return functions as tools; add what is wrong to *mistakes*."""
    result: dict[str, Tool] = {}
    for function in tools:
        try:
            tool = as_tool(function)
        except ToolNotDescribable as error:
            mistakes.append(error.message)
            continue
        if tool.name in result:
            mistakes.append(f"two tools are named {tool.name!r}; expected different names")
        if tool.name in BUILT_IN:
            mistakes.append(f"a tool is named {tool.name!r}, like a built-in tool; give it another name")
        result[tool.name] = tool
    return tuple(result.values())


def checked_members(members: Sequence[object], mistakes: list[str]) -> tuple[Definition, ...]:
    """Return the definitions of members; add what is wrong to *mistakes*."""
    result: dict[str, Definition] = {}
    for member in members:
        definition = getattr(member, "definition", None)
        if not isinstance(definition, Definition):
            mistakes.append(f"a member is a {type(member).__name__}; expected an Agent or a Team")
            continue
        if definition.id in result:
            mistakes.append(f"two members have the id {definition.id!r}; expected different ids")
        result[definition.id] = definition
    return tuple(result.values())


def checked_state(state: Mapping[str, Any] | None, mistakes: list[str]) -> dict[str, Any]:
    """Return the state as it will be stored; add what is wrong to *mistakes*."""
    try:
        stored = cast(dict[str, Any], json.loads(json.dumps(dict(state or {}), allow_nan=False)))
        bounds.check_state(stored, before={}, field="session_state")
        return stored
    except (TypeError, ValueError) as error:
        mistakes.append(f"session_state cannot be stored as JSON: {error}")
    except TeamSessionsError as error:
        mistakes.append(error.message)
    return {}


def raise_if_any(what: str, mistakes: list[str]) -> None:
    """Raise DefinitionInvalid if there are mistakes."""
    if mistakes:
        raise DefinitionInvalid(what=what, count=len(mistakes), mistakes="".join(f"\n  {m}" for m in mistakes))
