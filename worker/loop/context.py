"""The messages that are sent with one model call: instructions, history, and the run so far."""

from collections.abc import Iterable, Sequence

from worker.domain.chat import ChatMessage
from worker.domain.message import Message
from worker.loop.definition import Definition


def build(definition: Definition, history: Iterable[Message], log: Iterable[Message]) -> tuple[ChatMessage, ...]:
    """Return the context of the leader's next call. It only grows at its end while the run goes on."""
    return (*_system(definition.instructions), *(_sent(m) for m in history), *(_sent(m) for m in log))


def _system(instructions: Sequence[str]) -> list[ChatMessage]:
    return [ChatMessage("system", "\n".join(instructions))] if instructions else []


def _sent(message: Message) -> ChatMessage:
    return ChatMessage(message.role, message.content, message.tool_calls, message.tool_call_id)
