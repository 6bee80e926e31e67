"""The messages of one model call: instructions, summary, history, the conversation, and the session's state last.

Until the next summary, the context only grows at its end (apart from the state, which is last), so that a provider's
prompt cache hits. `fit` puts all of it into a form that every server accepts. The system message holds only what the
team's definition says: the summary stands before the first message, and the state behind the last one.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from worker.domain import ChatMessage, Message, Role
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
    earlier = _with_last_calls(history.messages, definition.max_tool_calls_from_history)
    sent = (_sent(m) for m in (*earlier, *log))
    messages = fit((*_system(definition, history), *definition.prompt.additional_input, *sent), tools=tools)
    messages = _with_summary(messages, history)
    prompt = definition.prompt
    at_end = [*([prompt.time] if prompt.time else ()), *prompt.data]
    if definition.add_session_state_to_context:
        at_end.append(data_block.block(data_block.STATE, json.dumps(state, ensure_ascii=False, sort_keys=True)))
    return _with_texts(messages, at_end) if at_end else messages


def _with_last_calls(messages: Sequence[Message], number: int | None) -> Iterable[Message]:
    """Return *messages* with only the last *number* of their tool calls, and the results of these; None: with all."""
    if number is None:
        return messages
    calls = [(message.seq, call.id) for message in messages for call in message.tool_calls]
    kept = set(calls[len(calls) - number :] if number < len(calls) else calls)
    result, caller = [], 0
    for message in messages:
        if message.tool_calls:
            caller = message.seq
            own = tuple(call for call in message.tool_calls if (caller, call.id) in kept)
            if own or message.content:
                result.append(replace(message, tool_calls=own))
        elif message.role is not Role.TOOL or (caller, message.tool_call_id) in kept:
            result.append(message)
    return result


def _system(definition: Definition, history: History) -> list[ChatMessage]:
    prompt = definition.prompt
    has_data = bool(history.summary) or definition.add_session_state_to_context or bool(prompt.data)
    texts = ["\n".join(_instructions(definition)), data_block.NOTE if has_data else ""]
    return [ChatMessage("system", text) for text in texts]


def _instructions(definition: Definition) -> Iterable[str]:
    prompt = definition.prompt
    if isinstance(prompt.system_message, str):
        return [prompt.system_message]
    assert not callable(definition.instructions)  # `prompt_text.of_run` has called them
    name = f"You are {definition.name}." if definition.role or prompt.name else ""
    role = f"{name} Your role: {definition.role}" if definition.role else name
    lines = (prompt.description, role, *definition.instructions, introduction(definition), *prompt.lines)
    return [line for line in lines if line]


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


def _with_texts(messages: tuple[ChatMessage, ...], texts: Iterable[str]) -> tuple[ChatMessage, ...]:
    """Return *messages* with *texts* at the end of the last one, a user's or a tool's result."""
    return (*messages[:-1], replace(messages[-1], content="\n\n".join((messages[-1].content, *texts))))


def _sent(message: Message) -> ChatMessage:
    return ChatMessage(message.role, message.content, message.tool_calls, message.tool_call_id, message.extra)
