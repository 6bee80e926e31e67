"""The shapes of the API, as the client returns them: plain dictionaries, typed.

`ops/handbook/api.md` explains each field. Times are RFC 3339 in UTC with six decimals; positions and seqs count from 1.
Made by `python -m ops.handbook.generate`. Do not edit.
"""

from typing import Any, Literal, NotRequired, TypedDict

EventType = Literal[
    "run.queued",
    "run.started",
    "run.requeued",
    "message.delta",
    "message.restarted",
    "message.completed",
    "tool_call.started",
    "tool_call.progress",
    "tool_call.completed",
    "tool_call.pending",
    "delegation.started",
    "delegation.completed",
    "run.paused",
    "run.completed",
    "run.failed",
    "run.cancelled",
]
Status = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
PendingKind = Literal["confirmation", "input", "external"]
DecidedBy = Literal["user", "operator"]
BatchKind = Literal["refresh_summaries", "replay_runs", "retry_failed", "enqueue_runs"]
ItemStatus = Literal[
    "waiting", "queued", "running", "paused", "completed", "same", "changed", "diverged", "failed", "cancelled", "gone"
]


class RunError(TypedDict):  # Why a run failed.
    code: str
    message: str


class Usage(TypedDict):  # The model calls and tokens of a run.
    model_calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


class PendingCall(TypedDict):  # A call that waits for a decision, and what was decided.
    id: str
    run_id: str
    team: str
    session_id: str
    user_id: str
    kind: PendingKind
    tool: str
    tool_call_id: str
    arguments: str
    schema: dict[str, Any]
    fields: list[str]
    author: str
    delegation: str | None
    decided_by: DecidedBy
    created_at: str
    expires_at: str | None
    decision: Literal["approve", "reject", "answer", "expired", "cancelled"] | None
    answer: str | None
    note: str | None
    key_id: str | None
    approver: str | None
    decided_at: str | None


class Decision(TypedDict):  # What somebody decides about a pending call.
    id: str
    action: Literal["approve", "reject", "answer"]
    arguments: NotRequired[dict[str, Any] | None]
    result: NotRequired[str | None]
    note: NotRequired[str | None]


class Decisions(TypedDict):  # The calls of a run that asked for a decision, oldest first.
    data: list[PendingCall]


class Run(TypedDict):  # One input and everything done to answer it.
    id: str
    team: str
    session_id: str
    user_id: str
    status: Status
    position: int
    attempt: int
    team_version: str | None
    input: str
    output: str | None
    parsed: Any
    error: RunError | None
    usage: Usage
    retry_of: str | None
    metadata: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None
    finish_reason: str | None
    pending: list[PendingCall]


class ToolCall(TypedDict):  # A tool call that a model asked for.
    id: str
    name: str
    arguments: str


class Message(TypedDict):  # One entry of the history.
    seq: int
    run_id: str
    role: Literal["user", "assistant", "tool"]
    author: str
    delegation: str | None
    content: str
    tool_calls: list[ToolCall]
    tool_call_id: str | None
    created_at: str


class SessionSummary(TypedDict):  # How much of a session is condensed in its summary.
    version: int
    covers_through_seq: int


class Session(TypedDict):  # One user's conversation with one team.
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
    summary: SessionSummary | None
    created_at: str
    updated_at: str


class Refresh(TypedDict):  # A refresh that a session waits for.
    status: Literal["waiting", "running", "failed"]
    failures: int
    error_code: str | None
    not_before: str | None


class Requested(TypedDict):  # The response to a request for a refresh of a summary.
    refresh: Refresh | None


class Erased(TypedDict):  # How much was erased.
    sessions: int
    runs: int
    messages: int
    summaries: int
    streams: int
    api_keys: int


class Summary(TypedDict):  # One version of the condensed past of a session.
    version: int
    text: str
    topics: list[str]
    covers_through_seq: int
    behind: int
    model: str
    created_at: str
    refresh: Refresh | None


class Why(TypedDict):  # Why a run is not moving.
    run_id: str
    status: Status
    reason: str
    detail: str


class Team(TypedDict):  # A team that live workers serve.
    team: str
    versions: list[str]
    workers: int
    queues: list[str]


class Selection(TypedDict, total=False):  # A filter of sessions or runs: those that meet all its conditions.
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


class Limits(TypedDict, total=False):  # The most per minute; null: no limit.
    items_per_minute: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None


class Budget(TypedDict, total=False):  # The most in total; null: no limit.
    tokens: int | None
    cost: float | None


class BatchRun(TypedDict):  # A run of a batch of kind 'enqueue_runs'.
    custom_id: NotRequired[str | None]
    team: str
    input: str
    session_id: NotRequired[str | None]
    user_id: NotRequired[str | None]
    metadata: NotRequired[dict[str, Any]]
    session_state: NotRequired[dict[str, Any]]
    dependencies: NotRequired[dict[str, Any]]
    add_dependencies_to_context: NotRequired[bool]
    output_schema: NotRequired[dict[str, Any] | None]
    output_name: NotRequired[str]
    on_busy: NotRequired[Literal["enqueue", "reject", "interrupt", "rollback", "coalesce", "pass"]]
    not_before: NotRequired[str | None]
    timeout: NotRequired[float | None]


class Estimate(TypedDict):  # What a batch would be.
    count: int
    sample: list[str]
    input_tokens: int
    output_tokens: int
    cost: float | None


class Counts(TypedDict):  # Numbers of items.
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


class Batch(TypedDict):  # One order over many sessions or runs.
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


class Item(TypedDict):  # One unit of a batch.
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
