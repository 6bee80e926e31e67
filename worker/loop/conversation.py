"""Everything that the loop needs to answer one input, or one delegated task, with its interfaces to the storage."""

import copy
import math
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from worker.domain import (
    NO_CHANGE,
    AskModel,
    ChatModel,
    Draft,
    Event,
    Excerpt,
    Message,
    PendingCall,
    StateChange,
    Stop,
    ToolCallProgress,
    Usage,
)
from worker.domain.event import TOOL_CALL_PROGRESS
from worker.domain.pending import Question
from worker.errors import ModelError
from worker.loop.answer import AnswerSchema
from worker.loop.definition import Definition, Limits
from worker.loop.recorded import Recorded
from worker.loop.run_context import RunContext


class Journal(Protocol):
    """The messages of a run, and how the loop adds more. Safe to use from several threads.

    A write raises LeaseLost after another process has taken the run over.
    """

    @property
    def log(self) -> list[Message]:
        """The run's messages, its input first, including those of delegations."""

    @property
    def usage(self) -> Usage:
        """What the run has used."""

    @property
    def state(self) -> dict[str, Any]:
        """The session's state, as this run last read it. Do not change it in place."""

    @property
    def pending(self) -> Mapping[str, PendingCall]:
        """The calls that asked for a decision, by idempotency key, as they were when this attempt began."""

    def record_pending(self, idempotency_key: str, question: Question) -> PendingCall:
        """Record that a call waits for a decision, unless it is recorded; return how it stands."""

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        """Write messages and their change of the session's state, in one transaction; add them to the log."""

    def record_start(self, idempotency_key: str) -> bool:
        """Record the start of a call that is not safe to repeat; False: it was recorded before."""

    def publish(self, event: Event) -> None:
        """Send an event to the run's watchers. It never waits, and nothing depends on its arrival."""


class Coroutines(Protocol):
    """Where the coroutines of users run."""

    def run(self, coroutine: Coroutine[Any, Any, Any], *, name: str, stop: Stop) -> Any:
        """Return what *coroutine* of the tool *name* returns. It is cancelled when *stop* is set."""


class HistoryReader(Protocol):
    """The session's messages before this run, for the tools that read them. Newest first, without rolled-back runs."""

    def chat(self, *, limit: int, num_runs: int | None, before: int | None, cut: int) -> list[Excerpt]:
        """Return up to *limit* messages of users and leaders, of the last *num_runs* runs or of all.

        Only those before the seq *before*, if it is set, and at most *cut* characters of each.
        """

    def tool_results(self, *, limit: int, before: int | None, cut: int) -> list[tuple[Message, Excerpt]]:
        """Return up to *limit* results of tools, each after the reply that asked for it. See `chat`."""

    def message(self, seq: int, *, begin: int, limit: int) -> Excerpt | None:
        """Return at most *limit* characters of a message before this run, from *begin* on; None: there is none."""


@dataclass(frozen=True, slots=True)
class History:
    """The part of a context from earlier runs: a summary, then messages, oldest first.

    `covers_through_seq` is the last message that the summary covers. `missing`: the first and the last seq of the
    messages between the two that were left out for size or, without `for_size`, by the team's options. `own_missing`:
    those of the run's own messages. `lengths`: by seq, the characters of texts of which only the beginning was read.
    """

    messages: tuple[Message, ...] = ()
    summary: str = ""
    covers_through_seq: int = 0
    missing: tuple[int, int] | None = None
    for_size: bool = True
    own_missing: tuple[int, int] | None = None
    lengths: Mapping[int, int] = field(default_factory=dict)


def _never_helps(error: ModelError) -> bool:
    return not error.retry


@dataclass(frozen=True, slots=True)
class Conversation:
    """The conversation of a leader or, with `delegation`, of a member. They share the run's limits."""

    definition: Definition
    model: ChatModel
    limits: Limits
    history: History
    journal: Journal
    history_reader: HistoryReader
    ask: AskModel
    stop: Stop
    run_id: str
    session_id: str
    user_id: str
    created_at: datetime  # when the run was accepted
    silence_s: float
    coroutines: Coroutines
    delegation: str | None = None
    dependencies: Mapping[str, Any] = field(default_factory=dict)
    shows_dependencies: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()  # of a member: texts about its team, at the end of its contexts
    recorded: Recorded | None = None  # in a replay: results instead of tool calls
    decided: tuple[PendingCall, ...] | None = None  # in a replay that executes its tools: what was decided then
    model_retries: int = 0
    answer: AnswerSchema | None = None  # what the answer must fit
    pending_s: float = math.inf  # after how long a call without a decision expires, if its tool does not say
    gives_up: Callable[[ModelError], bool] = _never_helps  # whether the run is not retried after this error

    @property
    def log(self) -> list[Message]:
        """The messages of this conversation, its input first. Other threads may add more."""
        return [m for m in list(self.journal.log) if m.delegation == self.delegation]

    def context(
        self, *, key: str, cancelled: threading.Event | None = None, call: ToolCallProgress | None = None
    ) -> RunContext:
        """Return the context for a function of the user's. *key* is the idempotency key of its *call*."""

        def notify(name: str, data: dict[str, Any]) -> None:
            if call is not None:
                self.journal.publish(TOOL_CALL_PROGRESS(**call, progress=name, data=data))

        return RunContext(
            run_id=self.run_id,
            session_id=self.session_id,
            user_id=self.user_id,
            idempotency_key=key,
            cancelled=cancelled or threading.Event(),
            session_state=copy.deepcopy(self.journal.state),
            dependencies=self.dependencies,
            metadata=self.metadata,
            notify=notify,
        )
