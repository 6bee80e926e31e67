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


BatchKind = Literal["refresh_summaries", "replay_runs", "retry_failed", "enqueue_runs"]
ItemStatus = Literal[
    "waiting", "queued", "running", "completed", "same", "changed", "diverged", "failed", "cancelled", "gone"
]


class Selection(TypedDict, total=False):
    """Which sessions or runs a batch is about: those that meet every filter that is given. Times are RFC 3339."""

    team: str | None
    team_version: str | None
    user_id: str | None
    tag: str | None
    name: str | None
    status: Literal["completed", "failed", "cancelled"] | None
    since: str | None
    until: str | None
    summary_below: int | None
    summary_not_by: str | None


class Limits(TypedDict, total=False):
    """How much a batch does in a minute, at most; None: any."""

    items_per_minute: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None


class Budget(TypedDict, total=False):
    """How much a batch uses in all, at most; None: any. What a cost is, the API's price list says."""

    tokens: int | None
    cost: float | None


class BatchRun(TypedDict, total=False):
    """A run of a batch of kind 'enqueue_runs'; `team` and `input` are needed. `custom_id` is your name for it."""

    custom_id: str | None
    team: str
    input: str
    session_id: str | None
    user_id: str | None
    metadata: dict[str, Any]
    on_busy: Literal["enqueue", "reject", "interrupt", "rollback", "coalesce"]
    not_before: str | None
    timeout: float | None


class Estimate(TypedDict):
    """What a batch would be; `cost` is None where no prices are known."""

    count: int
    sample: list[str]
    input_tokens: int
    output_tokens: int
    cost: float | None


class Counts(TypedDict):
    """The items of a batch, counted; those from `completed` on have ended so."""

    planned: int
    waiting: int
    in_flight: int
    ended: int
    completed: int
    same: int
    changed: int
    diverged: int
    failed: int
    cancelled: int
    gone: int


class Batch(TypedDict):
    """One order over many sessions or runs."""

    id: str
    kind: BatchKind
    name: str | None
    status: Literal["created", "running", "paused", "completed", "cancelled", "failed"]
    paused_by: Literal["request", "canary", "budget"] | None
    select: Selection
    canary: str | None
    window: int
    limits: Limits
    budget: Budget
    rebuild: bool
    execute_tools: bool
    items: Counts
    usage: Usage
    cost: float
    items_per_second: float
    remaining_seconds: float | None
    error_code: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class Item(TypedDict):
    """One unit of a batch, as its run, or its session's refresh, stands now."""

    number: int
    custom_id: str | None
    session_id: str | None
    user_id: str | None
    source_run_id: str | None
    run_id: str | None
    status: ItemStatus
    tries: int
    attempts: int | None
    error: RunError | None
    version: int | None
    usage: Usage


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
