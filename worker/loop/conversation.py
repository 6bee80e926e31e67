"""Everything that the loop needs to answer one input, or one delegated task."""

from dataclasses import dataclass

from worker.domain import AskModel, ChatModel, Message, Stop
from worker.loop.definition import Definition, Limits
from worker.loop.journal import HistoryReader, Journal
from worker.loop.recorded import Recorded


@dataclass(frozen=True, slots=True)
class History:
    """The part of a context from earlier runs: a summary, then messages, oldest first.

    `covers_through_seq` is the last message that the summary covers. `missing`: the first and the last seq of the
    messages between the two that were left out for size.
    """

    messages: tuple[Message, ...] = ()
    summary: str = ""
    covers_through_seq: int = 0
    missing: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The conversation of a leader or, with `delegation`, of a member. They share the run's limits."""

    definition: Definition
    model: ChatModel
    default_model: ChatModel
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
    delegation: str | None = None
    recorded: Recorded | None = None  # in a replay: results instead of tool calls

    @property
    def log(self) -> list[Message]:
        """The messages of this conversation, its input first. Other threads may add more."""
        return [m for m in list(self.journal.log) if m.delegation == self.delegation]
