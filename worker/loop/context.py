"""The messages of one model call: instructions, summary, history, the conversation, and the session's state last.

Until the next summary, the context only grows at its end (apart from the state, which is last), so that a provider's
prompt cache hits.
"""

import json
from collections.abc import Iterable
from typing import Any

from worker.domain import ChatMessage, Message
from worker.loop.conversation import History
from worker.loop.definition import Definition
from worker.loop.delegation import introduction


def build(
    definition: Definition, history: History, log: Iterable[Message], state: dict[str, Any]
) -> tuple[ChatMessage, ...]:
    """Return the context of the next call of a leader or a member."""
    return (
        *_system(definition),
        *_summary(history),
        *(_sent(m) for m in history.messages),
        *(_sent(m) for m in log),
        *(_state(state) if definition.add_session_state_to_context else ()),
    )


def _system(definition: Definition) -> list[ChatMessage]:
    role = f"You are {definition.name}. Your role: {definition.role}" if definition.role else ""
    parts = [role, *definition.instructions, introduction(definition)]
    text = "\n".join(part for part in parts if part)
    return [ChatMessage("system", text)] if text else []


def _summary(history: History) -> list[ChatMessage]:
    parts = []
    if history.summary:
        covered = f"its messages 1 to {history.covers_through_seq}"
        parts.append(f"Summary of this conversation so far ({covered}):\n{history.summary}")
    if history.missing is not None:
        first, last = history.missing
        parts.append(f"(Messages {first} to {last} are left out here for size.)")
    return [ChatMessage("system", "\n\n".join(parts))] if parts else []


def _state(state: dict[str, Any]) -> list[ChatMessage]:
    return [ChatMessage("system", f"The session's state: {json.dumps(state, ensure_ascii=False, sort_keys=True)}")]


def _sent(message: Message) -> ChatMessage:
    return ChatMessage(message.role, message.content, message.tool_calls, message.tool_call_id, message.extra)
