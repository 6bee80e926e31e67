"""The events of a run: their names, their data and their ids.

`EVENT_TYPES` is the only description of the events. The handbook's page, the API's description of its event stream and
the client's `EventType` are made from it, and mypy checks the data of every event that is published.

The id of an event is `<fence>-<n>`, so that a stream in Redis refuses an entry of an older claim. A run's first event
is `0-1`, its last `<fence>-0`, a pause `<fence>-1`; all three are made from the run's row where the stream lacks them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypedDict, get_type_hints

from worker.domain.message import Message, Role
from worker.domain.pending import PendingKind
from worker.domain.run import Run, Status

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run's stream. `data` is a JSON object, described by its `EventType`."""

    type: str
    data: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        text = "the text of a message.delta is data['delta']"
        raise AttributeError(f"an Event has a type and data, and no {name!r}; {text}")


@dataclass(frozen=True, slots=True)
class EventType(Generic[P]):
    """A type of event. A call with the fields of its data, a TypedDict, makes an event."""

    name: str
    data: Callable[P, object]
    description: str

    @property
    def fields(self) -> list[str]:
        """The names of the fields of its data."""
        return list(get_type_hints(self.data))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Event:
        return Event(self.name, kwargs)


class RunQueued(TypedDict):
    run_id: str
    session_id: str
    team: str
    position: int


class RunStarted(TypedDict):
    run_id: str
    attempt: int


class RunRequeued(TypedDict):
    run_id: str
    reason: str
    not_before: str


class MessageDelta(TypedDict):
    message_id: str
    author: str
    delegation: str | None
    delta: str


class MessageRestarted(TypedDict):
    message_id: str


class MessageCompleted(TypedDict):
    message_id: str
    seq: int
    role: Role
    author: str
    delegation: str | None
    content: str
    tool_calls: list[dict[str, str]]  # each: id, name, arguments
    tool_call_id: str | None


class ToolCallProgress(TypedDict):
    tool_call_id: str
    name: str
    author: str
    delegation: str | None


class ToolCallEnded(ToolCallProgress):
    failed: bool  # the tool raised an error, or was not called; the result says why


class ToolCallNote(ToolCallProgress):
    progress: str
    data: dict[str, Any]


class ToolCallPending(ToolCallProgress):
    pending_id: str
    kind: PendingKind


class DelegationProgress(TypedDict):
    delegation: str
    member: str
    author: str


class RunPaused(TypedDict):
    run_id: str
    pending: list[str]  # ids of the calls that wait for a decision


class RunEnded(TypedDict):
    run_id: str
    status: Status


class RunCompleted(RunEnded):
    finish_reason: str | None


RUN_QUEUED = EventType("run.queued", RunQueued, "The run was accepted. It is always the first event.")
RUN_STARTED = EventType("run.started", RunStarted, "A worker has claimed the run; each attempt begins with this event.")
RUN_REQUEUED = EventType(
    "run.requeued", RunRequeued, "The run waits for its next attempt after a model error; what it wrote is kept."
)
MESSAGE_DELTA = EventType("message.delta", MessageDelta, "The next piece of a message's text. Append it.")
MESSAGE_RESTARTED = EventType(
    "message.restarted",
    MessageRestarted,
    "The attempt that was writing the message was lost. Discard all deltas of the message; new ones follow.",
)
MESSAGE_COMPLETED = EventType(
    "message.completed",
    MessageCompleted,
    "The message was written to the history. Replace its deltas with `content`, which is always the whole text.",
)
TOOL_CALL_STARTED = EventType("tool_call.started", ToolCallProgress, "A tool was called.")
TOOL_CALL_PROGRESS = EventType(
    "tool_call.progress",
    ToolCallNote,
    "The tool says how far it is, by `RunContext.tell`: a name, and an object of its own. It is not stored.",
)
TOOL_CALL_COMPLETED = EventType(
    "tool_call.completed",
    ToolCallEnded,
    "The call has a result, also if the tool `failed`. The result is the `message.completed` with the same "
    "`tool_call_id`.",
)
TOOL_CALL_PENDING = EventType(
    "tool_call.pending",
    ToolCallPending,
    "The call waits for a decision. Other calls go on; `GET /v1/runs/{run_id}/decisions` shows what it asks for.",
)
DELEGATION_STARTED = EventType("delegation.started", DelegationProgress, "A member began a task that it was given.")
DELEGATION_COMPLETED = EventType("delegation.completed", DelegationProgress, "The member has answered.")
RUN_PAUSED = EventType(
    "run.paused",
    RunPaused,
    "All that is left to do waits for a decision. Once a call is decided, the run goes on with `run.started`.",
)
RUN_COMPLETED = EventType(
    "run.completed",
    RunCompleted,
    "The run has ended with an answer. `finish_reason` is `length` if the model's limit of output tokens cut it "
    "off, else `stop`.",
)
RUN_FAILED = EventType("run.failed", RunEnded, "The run has ended with an error.")
RUN_CANCELLED = EventType("run.cancelled", RunEnded, "The run has ended because it was cancelled.")

EVENT_TYPES = [value for value in tuple(globals().values()) if isinstance(value, EventType)]  # those above, in order
TERMINAL = frozenset({RUN_COMPLETED.name, RUN_FAILED.name, RUN_CANCELLED.name})
ERASED = "run.erased"  # an internal entry: the run was deleted, and its stream ends without a terminal event


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """Position of an event in its stream: by fence, then by number."""

    fence: int
    n: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """Return the id that *text* contains, or None if it is not an id."""
        fence, _, n = text.partition("-")
        return cls(int(fence), int(n)) if fence.isdecimal() and n.isdecimal() and len(text) <= 40 else None


QUEUED_ID = EventId(0, 1)
FIRST_MESSAGE = "0"  # id of a run's input for watchers


def queued(run: Run) -> Event:
    """Return the first event of *run*."""
    return RUN_QUEUED(run_id=run.id, session_id=run.session_id, team=run.team, position=run.position)


def message_id(delegation: str | None, index: int) -> str:
    """Return the id of a message for watchers, who see it before it has a seq.

    *index* is the number of messages before it in its conversation: the leader's, or that of a delegation. The id has
    no fence in it, so a message that one attempt completes replaces what a lost attempt began.
    """
    return f"{index}" if delegation is None else f"{delegation}-{index}"


def message_completed(message: Message, *, index: int) -> Event:
    """Return the event of a written message. *index*: as for `message_id`."""
    return MESSAGE_COMPLETED(
        message_id=message_id(message.delegation, index),
        seq=message.seq,
        role=message.role,
        author=message.author,
        delegation=message.delegation,
        content=message.content,
        tool_calls=[{"id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls],
        tool_call_id=message.tool_call_id,
    )


def terminal_event(run_id: str, status: Status, finish_reason: str | None) -> Event:
    """Return the terminal event of a run that ended with *status*. The API sends the whole run as its data."""
    if status is Status.COMPLETED:
        return RUN_COMPLETED(run_id=run_id, status=status, finish_reason=finish_reason)
    return Event(f"run.{status}", {"run_id": run_id, "status": status})


def terminal_id(run: Run) -> EventId:
    """Return the id of a terminal run's last event. Finishing raised the fence once more, so it comes last."""
    return EventId(run.fence, 0)


def pause_id(run: Run) -> EventId:
    """Return the id of the event of a paused run's pause, which has raised the fence. A client ends at an id `…-0`."""
    return EventId(run.fence, 1)
