"""The shapes of the API, as the client returns them: plain dictionaries, typed.

Times are RFC 3339 in UTC with six decimals; positions and seqs count from 1.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Literal, TypedDict, TypeVar

T = TypeVar("T")

Status = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
TERMINAL: tuple[Status, ...] = ("completed", "failed", "cancelled")


class RunError(TypedDict):
    """Why a run failed."""

    code: str
    message: str


class Usage(TypedDict):
    """What a run used of its models; `cached_input_tokens` are part of `input_tokens`."""

    model_calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


class Run(TypedDict):
    """One input and everything done to answer it. `output` is the final answer, once completed."""

    id: str
    team: str
    session_id: str
    user_id: str
    status: Status
    position: int
    attempt: int
    input: str
    output: str | None
    error: RunError | None
    usage: Usage
    retry_of: str | None
    metadata: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None


class ToolCall(TypedDict):
    """A model's wish to call a tool. `arguments` is its text, meant to be a JSON object."""

    id: str
    name: str
    arguments: str


class Message(TypedDict):
    """One entry of a session's history. `delegation` names the one that a member's message belongs to."""

    seq: int
    run_id: str
    role: Literal["user", "assistant", "tool"]
    author: str
    delegation: str | None
    content: str
    tool_calls: list[ToolCall]
    tool_call_id: str | None
    created_at: str


class SummaryPlace(TypedDict):
    """Which summary a session has, and how far it reaches."""

    version: int
    covers_through_seq: int


class Session(TypedDict):
    """One user's conversation with one team."""

    id: str
    team: str
    user_id: str
    name: str | None
    description: str | None
    tags: list[str]
    metadata: dict[str, Any]
    state: dict[str, Any]
    run_count: int
    message_count: int
    summary: SummaryPlace | None
    created_at: str
    updated_at: str


class Refresh(TypedDict):
    """A refresh of a summary that a session waits for: 'waiting', 'running' or 'failed'."""

    status: str
    failures: int
    error_code: str | None
    not_before: str | None


class Requested(TypedDict):
    """What became of a request for a refresh; None: the summary covers everything that has ended."""

    refresh: Refresh | None


class Erased(TypedDict):
    """How much of a user was erased."""

    sessions: int
    runs: int
    messages: int
    summaries: int
    streams: int
    api_keys: int


class Summary(TypedDict):
    """The condensed past of a session; `behind` counts the messages that it does not cover yet."""

    version: int
    text: str
    topics: list[str]
    covers_through_seq: int
    behind: int
    model: str
    created_at: str
    refresh: Refresh | None


class Why(TypedDict):
    """Why a run is not moving: a stable code and a sentence. The facts of the reason stand beside them."""

    run_id: str
    status: Status
    reason: str
    detail: str


class Team(TypedDict):
    """A team, as live workers serve it. It has several versions while a deploy is under way."""

    team: str
    versions: list[str]
    workers: int
    queues: list[str]


class Page(TypedDict, Generic[T]):
    """A piece of a list, and where the next one begins."""

    data: list[T]
    next_cursor: str | None


class Keep(Enum):
    """What is said of a field that stays as it is."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run: its id, its type such as 'message.delta', and its data. The terminal one carries the run."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        """Whether it is the run's last: 'run.completed', 'run.failed' or 'run.cancelled'."""
        return self.type.removeprefix("run.") in TERMINAL
