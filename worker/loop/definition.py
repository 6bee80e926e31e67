"""The definition of a team or an agent: its validated options, which the loop reads."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum, nonmember
from typing import Any

from worker.domain import ChatModel, Retention, SessionSummaryManager
from worker.loop.answer import AnswerSchema
from worker.loop.prompt import NO_PROMPT, Prompt
from worker.loop.run_context import name_of, underlying
from worker.loop.tools import Tool

Hook = Callable[..., Any]
Instructions = tuple[str, ...] | Callable[..., Any]
NUM_HISTORY_RUNS = 3  # if a team sets none


class Mode(StrEnum):
    """How a leader works with its members."""

    COORDINATE = "coordinate"  # it may delegate, and answers
    ROUTE = "route"  # it delegates, and the member's answer is the answer
    BROADCAST = "broadcast"  # all members answer the input in parallel, and it answers from their answers
    # As Agno spells them.
    coordinate, route, broadcast = COORDINATE, ROUTE, BROADCAST
    tasks = nonmember("tasks")  # so that a definition says that there is no such mode


class OnMemberFailure(StrEnum):
    """What a team does when the model of a member fails for good."""

    TELL = "tell"  # the failure is the result of the delegation, and the leader goes on
    FAIL = "fail"  # the team fails with it


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run, its members included. None: the setting of the worker; `tokens` None: no limit.

    `context_tokens`: the approximate size of the summary, the history and the run's messages that are sent with one
    model call. `model_retries`: how often in a row a run is retried after its model failed. `repairs`: how often an
    answer that does not fit its schema is asked for again, 0 or 1.
    """

    turns: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    context_tokens: int | None = None
    model_retries: int | None = None
    repairs: int = 1


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions around a run: `pre` before its first model call, `post` on its answer, `tool` around each tool call."""

    pre: tuple[Hook, ...] = ()
    post: tuple[Hook, ...] = ()
    tool: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class ForMembers:
    """What a leader's members are shown besides their tasks.

    `num_team_history_runs`: the number of earlier runs whose inputs and answers are shown. `interactions`: the tasks
    and answers of the other members in this run. `user_input`: the task is the user's input as it is.
    """

    num_team_history_runs: int = 0
    interactions: bool = False
    user_input: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """A team, or an agent, which is a team without members. `model` None: that of its team, else of the settings."""

    id: str
    name: str
    model: ChatModel | None
    role: str = ""
    instructions: Instructions = ()
    prompt: Prompt = NO_PROMPT
    tools: tuple[Tool, ...] = ()
    members: tuple["Definition", ...] = ()
    mode: Mode = Mode.COORDINATE
    on_member_failure: OnMemberFailure = OnMemberFailure.TELL
    for_members: ForMembers = ForMembers()
    hooks: Hooks = Hooks()
    tool_choice: str | None = None  # of the first model call: 'auto', 'required', or a tool's name; 'none': of each
    enable_agentic_state: bool = False
    ask_user: bool = False
    output_schema: AnswerSchema | None = None
    input_schema: AnswerSchema | None = None
    add_history_to_context: bool = False
    num_history_runs: int | None = None
    num_history_messages: int | None = None
    max_tool_calls_from_history: int | None = None
    read_chat_history: bool = False
    read_tool_call_history: bool = False
    session_state: dict[str, Any] = field(default_factory=dict)
    add_session_state_to_context: bool = False
    dependencies: Mapping[str, Any] = field(default_factory=dict)  # of its runs; not in the hash, and never stored
    enable_session_summaries: bool = False
    session_summary_manager: SessionSummaryManager = field(default_factory=SessionSummaryManager)
    add_session_summary_to_context: bool = False
    limits: Limits = Limits()
    retention: Retention = Retention()  # it does not affect answers, so it is not in the hash
    version: str = ""

    @property
    def history_runs(self) -> int:
        """How many runs the history has, if the number of its messages is not set."""
        return NUM_HISTORY_RUNS if self.num_history_runs is None else self.num_history_runs

    @property
    def limits_history(self) -> bool:
        """Whether the definition says how many runs or messages the history has."""
        return self.num_history_runs is not None or self.num_history_messages is not None

    def member(self, id: str) -> "Definition | None":
        """Return the member with this id, or the only one that a model can mean by it; None: there is none."""
        exact = next((m for m in self.members if m.id == id), None)
        meant = [m for m in self.members if slug(id) in (slug(m.id), slug(m.name))]
        return exact or (meant[0] if len(meant) == 1 else None)

    def with_version(self, version: str | None) -> "Definition":
        """Return this definition with a version: *version*, or a hash of what decides its answers."""
        return replace(self, version=version or self.fingerprint()[:12])

    def fingerprint(self) -> str:
        """Return a hash of what decides the answers: 64 hexadecimal digits."""
        limits = self.limits
        parts = [
            [
                self.id,
                self.name,
                self.role,
                self.mode,
                _named(self.instructions),
                self.model.id if self.model else None,
            ],
            [[t.name, t.description, t.parameters, t.repeatable] for t in self.tools],
            [m.fingerprint() for m in self.members],
            [self.add_history_to_context, self.history_runs, self.num_history_messages],
            self._summary_options(),
            [self.read_chat_history, self.read_tool_call_history, self.add_session_state_to_context],
            self.session_state,
            [limits.turns, limits.tool_calls, limits.tokens, limits.seconds, limits.context_tokens],
        ]
        if self.on_member_failure is not OnMemberFailure.TELL:  # versions of other teams stay as they were
            parts.append(self.on_member_failure)
        parts += self._later_options()
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def _later_options(self) -> list[Any]:
        """Return the options that the first release did not have, where they are set."""
        without = Definition(self.id, self.name, self.model)
        names = (
            *("prompt", "for_members", "hooks", "tool_choice", "enable_agentic_state", "ask_user"),
            *("output_schema", "input_schema"),
            "max_tool_calls_from_history",
        )
        options = [
            [name, _named(getattr(self, name))] for name in names if getattr(self, name) != getattr(without, name)
        ]
        stops = [t.name for t in self.tools if t.stop_after_call]
        asks = [[t.name, _named(t.asks)] for t in self.tools if t.asks is not None]
        return [
            *options,
            *([["stop_after_call", stops]] if stops else []),
            *([["asks", asks]] if asks else []),
        ]

    def _summary_options(self) -> list[Any]:
        manager = self.session_summary_manager
        model = manager.model.id if manager.model else None
        options = [model, manager.session_summary_prompt, manager.due_messages, manager.due_tokens]
        exact = ["exact"] if self.add_session_summary_to_context and self.limits_history else []
        return [self.enable_session_summaries, self.add_session_summary_to_context, options, *exact]


def slug(name: str) -> str:
    """Return a name as an id: lower case, a hyphen for everything that is no letter and no digit."""
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")


def _named(value: Any) -> Any:
    """Return a value of a definition for its hash: a function by its name, which is the same in every process."""
    if callable(value):
        return f"{underlying(value).__module__}.{name_of(value)}"
    if is_dataclass(value):
        return {field.name: _named(getattr(value, field.name)) for field in fields(value)}
    return [_named(each) for each in value] if isinstance(value, tuple) else value
