"""The interface between the loop and a model: requests and replies.

Their shapes follow the Chat Completions format, which all compatible servers understand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from worker.domain.message import Extra, ToolCall, with_unique_ids
from worker.domain.stop import Stop
from worker.domain.text import mend
from worker.domain.usage import Usage


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a context. `role` is 'system', 'user', 'assistant' or 'tool'.

    `extra` goes back with the message, and with its calls, to the model that it came from.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    extra: Extra | None = None


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool, as it is described to a model.

    `parameters` is the JSON schema of an object. `strict`: the provider is asked to keep to it.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One model call. It fails if the model sends nothing for `silence_s` seconds.

    `answer_schema`: the JSON schema of the answer, for models that support one, and what the answer is called.
    `describes_answer`: the messages say already what the answer must be, so no schema is put into them. `tool_choice`:
    'auto', 'required', 'none' or the name of a tool; None: as the provider does.
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDescription, ...] = ()
    answer_schema: dict[str, Any] | None = None
    silence_s: float = 60.0
    tool_choice: str | None = None
    answer_name: str = "answer"
    describes_answer: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer: text, tool calls or both. `usage.model_calls` is 1.

    Texts are made storable, and the ids of calls unique. `finish_reason` is the model's own word for why it ended, such
    as 'stop' or 'length', if it sends one. `extra`: what its provider wants back.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: str = ""
    extra: Extra | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", mend(self.content))
        usage = self.usage.of_one_call() if isinstance(self.usage, Usage) else Usage(model_calls=1)
        object.__setattr__(self, "usage", usage)
        object.__setattr__(self, "tool_calls", with_unique_ids(self.tool_calls))


@runtime_checkable
class ChatModel(Protocol):
    """A model. Implementations hold no state of a run, and are used by many runs at once."""

    @property
    def id(self) -> str:
        """The model's name at its provider."""

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Return the answer to *request*, and pass each piece of text to *on_delta* as it arrives.

        It runs on the one event loop of the process, so it must not block. Cancelling it ends the call at once.

        Raises:
            ModelError: `retry` says whether another try can help.
        """


class AskModel(Protocol):
    """Calls a model from the synchronous loop, and waits for the reply until *stop* ends the wait."""

    def __call__(self, model: ChatModel, request: ChatRequest, on_delta: Callable[[str], None], *, stop: Stop) -> Reply:
        """Raises ModelError, Stopped."""
