"""Everything that the loop needs to answer one input, or one delegated task, with its interfaces to the storage."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.domain import NO_CHANGE, AskModel, ChatModel, Draft, Event, Excerpt, Message, StateChange, Stop, Usage
from worker.errors import ModelError
from worker.loop.definition import Definition, Limits
from worker.loop.recorded import Recorded


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
    silence_s: float
    coroutines: Coroutines
    delegation: str | None = None
    recorded: Recorded | None = None  # in a replay: results instead of tool calls
    model_retries: int = 0
    gives_up: Callable[[ModelError], bool] = _never_helps  # whether the run is not retried after this error

    @property
    def log(self) -> list[Message]:
        """The messages of this conversation, its input first. Other threads may add more."""
        return [m for m in list(self.journal.log) if m.delegation == self.delegation]
