"""`Team` and `Agent`: definitions, checked when they are made."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from worker.domain.chat import ChatModel
from worker.domain.text import check_id
from worker.errors import DefinitionInvalid, TeamSessionsError, ToolNotDescribable
from worker.loop import delegation, history_tools
from worker.loop.definition import Definition, Limits, Mode
from worker.loop.tools import Tool, as_tool
from worker.summaries.manager import SessionSummaryManager

AnyTool = Tool | Callable[..., Any]
BUILT_IN = {delegation.NAME, *(t.name for t in history_tools.ALL)}


class Agent:
    """A member of a team: a model with a role, instructions and tools of its own.

    Args:
        id: by which a leader delegates to it; by default a slug of its name.
        name: for people, and for the model itself.
        role: what it is good at, in a sentence; its leader reads it.
        model: its own; every member needs one.
        instructions: what it is told first, one text or several lines.
        tools: functions that it may call.

    Raises:
        DefinitionInvalid: naming every mistake.
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
        self.id = _id(id, name, "agent", mistakes)
        self.name = name or self.id
        self.definition = Definition(
            id=self.id,
            name=self.name,
            role=role,
            model=model,
            instructions=_lines(instructions),
            tools=_tools(tools, mistakes),
        )
        _raise_if_any(f"agent {self.id!r}", mistakes)

    def __repr__(self) -> str:
        return f"Agent(id={self.id!r})"


class Team:
    """A leader with its members: the definition that runs name by its `id`.

    Args:
        id: by which runs name it; by default a slug of its name, else 'team'.
        name: for people, and for the model itself.
        role: as a member of another team: what it is good at.
        model: the leader's; by default the one that TEAM_SESSIONS_MODEL names.
        members: agents, or teams, that the leader can delegate to.
        mode: 'coordinate' (the leader delegates as it sees fit, and answers), 'route' (the member's answer is the
            answer) or 'broadcast' (all members get the input in parallel, and the leader answers from theirs).
        instructions: what the leader is told first, one text or several lines.
        tools: functions that the leader may call.
        add_history_to_context: whether each call is sent the session's past: exactly the last *num_history_runs*
            finished runs, or with *num_history_messages* at most so many messages.
        read_chat_history: whether the leader gets a tool that reads the whole chat.
        read_tool_call_history: whether it gets one that reads earlier tool calls.
        enable_session_summaries: whether the session is condensed when its history grows.
        session_summary_manager: with which model and prompt.
        session_summary_prompt: the prompt alone.
        add_session_summary_to_context: whether each call is sent the summary; by default if summaries are enabled.
        session_state: with what state a session begins.
        add_session_state_to_context: whether each call is sent the state.
        metadata: yours.
        limits: what one run may use, members included.
        version: of the definition; by default a hash of it.

    Raises:
        DefinitionInvalid: naming every mistake.
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        name: str | None = None,
        role: str = "",
        model: ChatModel | None = None,
        members: Sequence["Agent | Team"] = (),
        mode: str = "coordinate",
        instructions: str | Sequence[str] = (),
        tools: Sequence[AnyTool] = (),
        add_history_to_context: bool = False,
        num_history_runs: int = 3,
        num_history_messages: int | None = None,
        read_chat_history: bool = False,
        read_tool_call_history: bool = False,
        enable_session_summaries: bool = False,
        session_summary_manager: SessionSummaryManager | None = None,
        session_summary_prompt: str | None = None,
        add_session_summary_to_context: bool | None = None,
        session_state: Mapping[str, Any] | None = None,
        add_session_state_to_context: bool = False,
        metadata: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        version: str | None = None,
    ) -> None:
        mistakes: list[str] = []
        self.id = _id(id, name, "team", mistakes)
        self.name = name or self.id
        self.metadata = dict(metadata or {})
        self.enable_session_summaries = enable_session_summaries
        self.session_summary_manager = session_summary_manager or SessionSummaryManager(
            session_summary_prompt=session_summary_prompt
        )
        self.add_session_summary_to_context = (
            enable_session_summaries if add_session_summary_to_context is None else add_session_summary_to_context
        )
        if session_summary_manager is not None and session_summary_prompt is not None:
            mistakes.append("session_summary_prompt is given twice: to the team and by its session_summary_manager")
        for option, number in (
            ("num_history_runs", num_history_runs),
            ("num_history_messages", num_history_messages),
            *((f"limits.{name}", getattr(limits, name, None)) for name in ("turns", "tool_calls", "tokens", "seconds")),
        ):
            if number is not None and number < 0:
                mistakes.append(f"{option} is {number}; expected 0 or more")
        if mode not in list(Mode):
            mistakes.append(f"mode is {mode!r}; expected one of {', '.join(Mode)}")
        elif mode != Mode.COORDINATE and not members:
            mistakes.append(f"mode {mode!r} needs members, and there are none")
        definition = Definition(
            id=self.id,
            name=self.name,
            role=role,
            model=model,
            instructions=_lines(instructions),
            tools=_tools(tools, mistakes),
            members=_members(members, mistakes),
            mode=Mode(mode) if mode in list(Mode) else Mode.COORDINATE,
            add_history_to_context=add_history_to_context,
            num_history_runs=num_history_runs,
            num_history_messages=num_history_messages,
            read_chat_history=read_chat_history,
            read_tool_call_history=read_tool_call_history,
            session_state=_state(session_state, mistakes),
            add_session_state_to_context=add_session_state_to_context,
            limits=limits or Limits(),
        )
        _raise_if_any(f"team {self.id!r}", mistakes)
        self.definition = definition.with_version(version)

    def __repr__(self) -> str:
        return f"Team(id={self.id!r})"


def _id(id: str | None, name: str | None, otherwise: str, mistakes: list[str]) -> str:
    found = id or re.sub(r"[^a-z0-9]+", "-", (name or "").lower()).strip("-") or otherwise
    try:
        return check_id(found, field="id")
    except TeamSessionsError as error:
        mistakes.append(error.message)
        return otherwise


def _lines(instructions: str | Sequence[str]) -> tuple[str, ...]:
    return (instructions,) if isinstance(instructions, str) else tuple(instructions)


def _tools(tools: Sequence[AnyTool], mistakes: list[str]) -> tuple[Tool, ...]:
    described: dict[str, Tool] = {}
    for given in tools:
        try:
            made = as_tool(given)
        except ToolNotDescribable as error:
            mistakes.append(error.message)
            continue
        if made.name in described:
            mistakes.append(f"two tools are named {made.name!r}; give each a name of its own")
        if made.name in BUILT_IN:
            mistakes.append(f"a tool is named {made.name!r}, like one of ours; give it another name")
        described[made.name] = made
    return tuple(described.values())


def _members(members: Sequence[Agent | Team], mistakes: list[str]) -> tuple[Definition, ...]:
    found: dict[str, Definition] = {}
    for member in members:
        definition = getattr(member, "definition", None)
        if not isinstance(definition, Definition):
            mistakes.append(f"a member is a {type(member).__name__}; expected an Agent or a Team")
            continue
        if definition.id in found:
            mistakes.append(f"two members have the id {definition.id!r}; give each an id of its own")
        if definition.model is None:
            mistakes.append(f"member {definition.id!r} has no model; give it one, as in model=OpenAIChat(id=…)")
        found[definition.id] = definition
    return tuple(found.values())


def _state(state: Mapping[str, Any] | None, mistakes: list[str]) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(json.dumps(dict(state or {}), allow_nan=False)))
    except (TypeError, ValueError) as error:
        mistakes.append(f"session_state cannot be stored as JSON: {error}")
        return {}


def _raise_if_any(what: str, mistakes: list[str]) -> None:
    if mistakes:
        raise DefinitionInvalid(what=what, count=len(mistakes), mistakes="".join(f"\n  {m}" for m in mistakes))
