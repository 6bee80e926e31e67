"""Puts the messages of a context into a form that every server accepts. Pure; the stored messages stay as they are.

A history holds what failed and cancelled runs left, ids of other providers, arguments that were cut off, and calls of
tools that the team no longer has. Strict servers refuse the whole request because of one such message. So what is sent
is derived from it, with these rules:

- There is at most one system message, and it is first. Then a user's message follows, and users and assistants
  alternate. The last message is a user's or a tool's result.
- A call is sent as a call only if its tool is offered; each has an id of its own, a JSON object as arguments, and one
  result directly behind its reply. Other calls and results become data in a user's message.
- A user's message never follows a tool's result directly, and no text is blank, except beside calls.

The messages before a message decide how it is sent, and none behind it, so that a context grows at its end.
Source: ops/handbook/decisions/0022.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from worker.domain import ChatMessage, ToolCall, check_json
from worker.errors import InvalidJson, InvalidText
from worker.loop import data_block

BEGINNING = "(The messages before this one are left out.)"
CONTINUE = "(Continue.)"
NO_ANSWER = "(This turn ended without an answer.)"
NO_RESULT = "(no result)"
EMPTY = "(empty)"
INVALID = "invalid_arguments"  # the key under which a model sees arguments that were no JSON object
ID_LIMIT = 40  # the shortest limit of a provider (OpenAI)
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{ID_LIMIT}}}")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]+")


def fit(messages: Iterable[ChatMessage], *, tools: Collection[str]) -> tuple[ChatMessage, ...]:
    """Return *messages* in a form that every server accepts. *tools*: the names of the tools that are offered."""
    system: list[str] = []
    others: list[ChatMessage] = []
    for message in messages:
        if message.role != "system":
            others.append(message)
        elif not _is_blank(message.content):
            system.append(message.content)
    fitted = _Fitted(tools)
    for first, results in _turns(others):
        fitted.add(first, results)
    fitted.finish()
    if fitted.has_blocks and not any(data_block.NOTE in text for text in system):
        system.append(data_block.NOTE)
    return (*([ChatMessage("system", "\n\n".join(system))] if system else ()), *fitted.messages)


def as_object(arguments: str) -> str:
    """Return *arguments* if they are a JSON object; else an object that shows them."""
    if _is_blank(arguments):
        return "{}"
    try:
        value = json.loads(arguments)
        check_json(value, field="arguments")
        if isinstance(value, dict):
            return arguments
    except (ValueError, RecursionError, InvalidJson, InvalidText):
        pass
    return json.dumps({INVALID: arguments}, ensure_ascii=False)


class _Fitted:
    """The messages that are fitted so far, without the system's."""

    def __init__(self, tools: Collection[str]) -> None:
        self.messages: list[ChatMessage] = []
        self.has_blocks = False
        self._tools = tools
        self._ids: set[str] = set()
        self._renamed: Counter[str] = Counter()

    def add(self, message: ChatMessage, results: Sequence[ChatMessage]) -> None:
        """Add a message, and the tool results that stand behind it."""
        if message.role == "user":
            self._add_user(_text(message))
        elif message.role == "tool":
            self._add_block(message.content)
        elif not message.tool_calls:
            text = _text(message)
            self._add_reply(message if text == message.content else replace(message, content=text))
        else:
            results = self._add_calls(message, results)
        for result in results:
            self._add_block(result.content)

    def finish(self) -> None:
        """Let the messages end with one that a model can answer."""
        if not self.messages or self.messages[-1].role == "assistant":
            self._add_user(CONTINUE)

    def _add_user(self, text: str) -> None:
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "user":
            self.messages[-1] = replace(last, content=f"{last.content}\n\n{text}")
            return
        if last is not None and last.role == "tool":
            self.messages.append(ChatMessage("assistant", NO_ANSWER))
        self.messages.append(ChatMessage("user", text))

    def _add_reply(self, reply: ChatMessage) -> None:
        if not self.messages:
            self._add_user(BEGINNING)
        last = self.messages[-1]
        if last.role == "assistant":  # a text: behind calls their results follow
            self.messages[-1] = replace(reply, content=f"{last.content}\n\n{reply.content}".rstrip())
        else:
            self.messages.append(reply)

    def _add_calls(self, reply: ChatMessage, results: Iterable[ChatMessage]) -> list[ChatMessage]:
        """Add a reply and the results of its calls. Return the other results."""
        left: defaultdict[str | None, list[ChatMessage]] = defaultdict(list)
        for result in results:
            left[result.tool_call_id].append(result)
        texts = [_text(left[call.id].pop(0)) if left[call.id] else NO_RESULT for call in reply.tool_calls]
        self._add_answered(reply, texts)
        return [result for same_id in left.values() for result in same_id]

    def _add_answered(self, reply: ChatMessage, texts: Sequence[str]) -> None:
        text = "" if _is_blank(reply.content) else data_block.escape(reply.content)
        if all(call.name in self._tools for call in reply.tool_calls):
            calls = tuple(self._call(call) for call in reply.tool_calls)
            self._add_reply(replace(reply, content=text, tool_calls=calls))
            self.messages.extend(
                ChatMessage("tool", text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)
            )
            return
        if text:
            self._add_reply(ChatMessage("assistant", text))
        for call, text in zip(reply.tool_calls, texts, strict=True):
            self._add_block(f"{call.name}({call.arguments}) returned:\n{text}")

    def _add_block(self, text: str) -> None:
        self.has_blocks = True
        self._add_user(data_block.block(data_block.CALL, text))

    def _call(self, call: ToolCall) -> ToolCall:
        id, arguments = self._unique(call.id), as_object(call.arguments)
        return call if (id, arguments) == (call.id, call.arguments) else replace(call, id=id, arguments=arguments)

    def _unique(self, id: str) -> str:
        """Return *id*, or one like it that no call before has and that providers accept."""
        unique = id if _ID.fullmatch(id) else _NOT_IN_ID.sub("_", id)[:ID_LIMIT] or "call"
        base = unique[: ID_LIMIT - 8]
        while unique in self._ids:
            self._renamed[base] += 1
            unique = f"{base}_{self._renamed[base]}"
        self._ids.add(unique)
        return unique


def _turns(messages: Iterable[ChatMessage]) -> Iterator[tuple[ChatMessage, list[ChatMessage]]]:
    """Yield each message with the tool results that stand behind it."""
    turn: list[ChatMessage] = []
    for message in messages:
        if turn and message.role != "tool":
            yield turn[0], turn[1:]
            turn = []
        turn.append(message)
    if turn:
        yield turn[0], turn[1:]


def _text(message: ChatMessage) -> str:
    return EMPTY if _is_blank(message.content) else data_block.escape(message.content)


def _is_blank(text: str) -> bool:
    return not text or text.isspace()
