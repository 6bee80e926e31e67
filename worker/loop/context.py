"""The messages of one model call: instructions, summary, history, the conversation, and the session's state last.

Until the next summary, the context only grows at its end (apart from the state, which is last), so that a provider's
prompt cache hits. `fit` puts all of it into a form that every server accepts. The system message holds only what the
team's definition says: the summary stands before the first message, and the state behind the last one.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from worker.domain import ChatMessage, Message
from worker.loop import data_block
from worker.loop.conversation import History
from worker.loop.definition import Definition
from worker.loop.delegation import introduction
from worker.loop.fit import fit


def build(
    definition: Definition,
    history: History,
    log: Iterable[Message],
    state: dict[str, Any],
    *,
    tools: Collection[str],
) -> tuple[ChatMessage, ...]:
    """Return the context of the next call of a leader or a member, to which *tools* are offered, by name."""
    messages = fit(
        (*_system(definition, history), *(_sent(m) for m in history.messages), *(_sent(m) for m in log)), tools=tools
    )
    messages = _with_summary(messages, history)
    return _with_state(messages, state) if definition.add_session_state_to_context else messages


def _system(definition: Definition, history: History) -> list[ChatMessage]:
    role = f"You are {definition.name}. Your role: {definition.role}" if definition.role else ""
    parts = [role, *definition.instructions, introduction(definition)]
    has_data = bool(history.summary) or definition.add_session_state_to_context
    texts = ["\n".join(part for part in parts if part), data_block.NOTE if has_data else ""]
    return [ChatMessage("system", text) for text in texts]


def _with_summary(messages: tuple[ChatMessage, ...], history: History) -> tuple[ChatMessage, ...]:
    """Return *messages* with the summary, and what is left out, before the first one, which is a user's."""
    if not (texts := list(_before(history))):
        return messages
    first = next(n for n, message in enumerate(messages) if message.role == "user")
    content = "\n\n".join((*texts, messages[first].content))
    return (*messages[:first], replace(messages[first], content=content), *messages[first + 1 :])


def _before(history: History) -> Iterable[str]:
    if history.summary:
        covered = f"its messages 1 to {history.covers_through_seq}"
        summary = data_block.block(data_block.SUMMARY, history.summary)
        yield f"Summary of this conversation so far ({covered}):\n{summary}"
    if history.missing is not None:
        first, last = history.missing
        yield f"(Messages {first} to {last} are left out here{' for size' if history.for_size else ''}.)"
    if history.own_missing is not None:
        first, last = history.own_missing
        yield f"(Messages {first} to {last}, which follow the last input, are left out here for size.)"


def _with_state(messages: tuple[ChatMessage, ...], state: dict[str, Any]) -> tuple[ChatMessage, ...]:
    """Return *messages* with the state at the end of the last one, a user's or a tool's result."""
    text = data_block.block(data_block.STATE, json.dumps(state, ensure_ascii=False, sort_keys=True))
    return (*messages[:-1], replace(messages[-1], content=f"{messages[-1].content}\n\n{text}"))


def _sent(message: Message) -> ChatMessage:
    return ChatMessage(message.role, message.content, message.tool_calls, message.tool_call_id, message.extra)
