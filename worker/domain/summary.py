"""A summary: the condensed past of a session; how a team has it made, and when one is due."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from worker.domain.chat import ChatModel
from worker.domain.fields import ANSWER, HIDDEN, Time, field
from worker.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class SessionSummaryManager:
    """How a team's summaries are made and updated.

    `model` defaults to the team's, `session_summary_prompt` to a built-in prompt. A summary is due when
    `due_messages` messages or about `due_tokens` tokens follow it; both default to the settings.
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
class Refresh:
    """A refresh that a session waits for."""

    status: Annotated[
        Literal["waiting", "running", "failed"],
        field("'failed': the last try failed; the next one comes when a refresh is due or requested.", "waiting"),
    ]
    failures: Annotated[int, field("Failed tries in a row.", 0)]
    error_code: Annotated[str | None, field("Why the last try failed.", "model_rate_limited", None)]
    not_before: Annotated[Time | None, field("When the next try starts.")]


@dataclass(frozen=True, slots=True)
class Summary:
    """One version of the condensed past of a session."""

    __pydantic_config__ = ANSWER

    version: Annotated[int, field("Counts from 1.", 2)]
    text: Annotated[str, field("The conversation, condensed.", "The user waits for a parcel; a ticket is open.")]
    topics: Annotated[list[str], field("Topics of the conversation.", ["parcel"])]
    covers_through_seq: Annotated[int, field("The seq of the last message that it covers.", 40)]
    behind: Annotated[int, field("Messages of the session that it did not cover when it was read.", 3)]
    model: Annotated[str, field("The model that wrote it.", "gpt-5-mini")]
    prompt_hash: Annotated[str, HIDDEN]  # of the prompt that it was made with
    usage: Annotated[Usage, HIDDEN]
    created_at: Annotated[Time, field("When it was made.")]
    refresh: Annotated[Refresh | None, field("The refresh that the session waits for; null: none.")] = None


@dataclass(frozen=True, slots=True)
class SummaryDraft:
    """An unfinished summary, made of `pieces`. It covers the history through a message and the run of a position.

    `size` counts the characters of history between `replaces_seq`, where the current summary ends, and that message.
    """

    model: str
    prompt_hash: str
    replaces_seq: int
    text: str = ""
    topics: list[str] = dataclasses.field(default_factory=list)
    covers_through_seq: int = 0
    covers_position: int = 0
    size: int = 0
    pieces: int = 0
    usage: Usage = Usage()
