"""The border between the loop and any model: what is asked, and what comes back.

Shapes follow the Chat Completions wire format, the common denominator of compatible servers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from worker.domain.message import ToolCall, told_apart
from worker.domain.stop import Stop
from worker.domain.text import mend
from worker.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a context. `role` is 'system', 'user', 'assistant' or 'tool'."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool as a model sees it. `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One model call. A model that sends nothing for `silence_s` seconds has failed.

    `answer_schema`: a JSON schema that the answer is to fit, where the model knows how.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDescription, ...] = ()
    answer_schema: dict[str, Any] | None = None
    silence_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered: text, tool calls or both, never neither. `usage.model_calls` is 1.

    It can be stored, and each call can be told by its id, whatever the model sent. `finish_reason` is the model's own
    word for why it ended, such as 'stop' or 'length', if it has one.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", mend(self.content))
        object.__setattr__(self, "tool_calls", told_apart(self.tool_calls))


@runtime_checkable
class ChatModel(Protocol):
    """A model. Implementations hold no state of a run, and may be asked from many runs at once."""

    @property
    def id(self) -> str:
        """The model's name at its provider."""

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Answer *request*, and hand over each piece of text as it arrives.

        Runs on the process's one event loop: it must not block. Cancelling it ends the call at once.

        Raises:
            ModelError: `retry` tells whether asking again can help.
        """


class AskModel(Protocol):
    """How the synchronous loop calls a model: it waits for the reply, and no longer than *stop* allows."""

    def __call__(self, model: ChatModel, request: ChatRequest, on_delta: Callable[[str], None], *, stop: Stop) -> Reply:
        """Raises ModelError, Stopped."""
