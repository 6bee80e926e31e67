"""All that the loop needs to answer one input, or one delegated task."""

from dataclasses import dataclass

from worker.domain.chat import AskModel, ChatModel
from worker.domain.message import Message
from worker.domain.stop import Stop
from worker.loop.definition import Definition, Limits
from worker.loop.journal import HistoryReader, Journal
from worker.loop.recorded import Recorded


@dataclass(frozen=True, slots=True)
class History:
    """What a context shows of the session's past: a summary, what is `missing`, then messages, oldest first.

    `covers_through_seq` is the last message that the summary covers. `missing` are the first and the last seq of what
    stands between the two and was too much to be sent.
    """

    messages: tuple[Message, ...] = ()
    summary: str = ""
    covers_through_seq: int = 0
    missing: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A leader's, or with `delegation` a member's. Limits are those of the run, whoever uses them up."""

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
    recorded: Recorded | None = None  # what tools return, in place of a call

    @property
    def log(self) -> list[Message]:
        """The messages of this conversation, its input first. Others may be written while one looks."""
        return [m for m in list(self.journal.log) if m.delegation == self.delegation]
