"""A summary: the condensed past of a session; how a team has it made, and when one is due."""

from dataclasses import dataclass, field
from datetime import datetime

from worker.domain.chat import ChatModel
from worker.domain.usage import Usage

CHARS_PER_TOKEN = 4  # an estimate: nobody but the provider knows how it counts


@dataclass(frozen=True, slots=True)
class SessionSummaryManager:
    """How a team's summaries are made and updated.

    `model` defaults to the team's, `session_summary_prompt` to a prompt of ours. A summary is due when the messages
    behind it are `due_messages`, or have about `due_tokens`; both default to the settings.
    """

    model: ChatModel | None = None
    session_summary_prompt: str | None = None
    due_messages: int | None = None
    due_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """How much unsummarised history a team takes before a summary is due: messages, or characters of them."""

    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class Summary:
    """One version of a session's summary. `covers_through_seq` is the last message that it covers.

    `behind` is how many messages were not covered when it was read; `prompt_hash` tells by which prompt it was made.
    """

    version: int
    text: str
    topics: list[str]
    covers_through_seq: int
    behind: int
    model: str
    prompt_hash: str
    usage: Usage
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """What a refresh has so far, made of `pieces`: it covers the history through a message and the run of a position.

    `size` is how many characters of history that is in addition to what the current summary covers, which ends at
    `replaces_seq`.
    """

    model: str
    prompt_hash: str
    replaces_seq: int
    text: str = ""
    topics: list[str] = field(default_factory=list)
    covers_seq: int = 0
    covers_position: int = 0
    size: int = 0
    pieces: int = 0
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh that a session waits for. `status` is 'waiting', 'running', or 'failed': not before it is due again.

    `error_code` tells why the last try failed, `not_before` when the next one comes.
    """

    status: str
    failures: int
    error_code: str | None
    not_before: datetime | None
