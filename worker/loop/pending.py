"""Calls that wait for a decision, and what a decision makes of them.

A call that asks is recorded before the run pauses, so it can be decided about while other calls still work. What is
recorded counts, also if the tool has changed since.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from worker.domain import Event, Paused, PendingCall, PendingKind, ToolCall, Verdict
from worker.domain.event import TOOL_CALL_PENDING
from worker.domain.pending import OnExpiry, Question
from worker.errors import DecisionExpired, HookFailed, ReplayDiverged
from worker.loop.asks import Asks, only, seconds
from worker.loop.conversation import Conversation
from worker.loop.tools import Result, Tool
from worker.loop.user_function import call as call_function

REJECTED = "Error: this call was not made: it was rejected."
EXPIRED = "Error: this call was not made: no decision came in time."
OTHER_ARGUMENTS = "(It was called with other arguments: {arguments}) "


def settled(
    conversation: Conversation, tool: Tool, call: ToolCall, key: str
) -> ToolCall | Result | Paused | DecisionExpired | ReplayDiverged:
    """Return the call as it is to be made, or its result without a call; that it waits, or that the run fails."""
    known = conversation.journal.pending.get(key)
    if known is None:
        if tool.asks is None:
            return call
        if (problem := tool.problem(call.arguments)) is not None:
            return Result(problem, failed=True)
        try:
            if not _asks_now(conversation, tool.asks, tool, call, key):
                return call
        except HookFailed as error:
            return Result(f"Error: this call was not made. {error.message}", failed=True)
        if conversation.decided is not None:
            return _as_then(conversation.decided, conversation.definition.id, tool, call)
        known = conversation.journal.record_pending(key, _question(conversation, tool, tool.asks, call))
    if known.is_open:
        conversation.journal.publish(_event(known))
        return Paused()
    return _decided(known, call)


def result_text(known: PendingCall | None, text: str) -> str:
    """Return a result for the model, which must learn that its call was made with other arguments than its own."""
    if known is None or known.kind is not PendingKind.CONFIRMATION or known.answer is None:
        return text
    return OTHER_ARGUMENTS.format(arguments=known.answer) + text


def _decided(known: PendingCall, call: ToolCall) -> ToolCall | Result | DecisionExpired:
    match known.decision:
        case Verdict.APPROVE:
            return call if known.answer is None else replace(call, arguments=known.answer)
        case Verdict.ANSWER if known.kind is PendingKind.EXTERNAL:
            return Result(known.answer or "")
        case Verdict.ANSWER:
            given = {**_object(call.arguments), **_object(known.answer or "{}")}
            return replace(call, arguments=json.dumps(given, ensure_ascii=False))
        case Verdict.EXPIRED if known.on_expiry is OnExpiry.FAIL:
            return DecisionExpired(tool=known.tool)
        case Verdict.EXPIRED:
            return Result(EXPIRED, failed=True)
        case _:
            return Result(f"{REJECTED} {known.note or ''}".strip(), failed=True)


def _as_then(
    decided: Sequence[PendingCall], author: str, tool: Tool, call: ToolCall
) -> ToolCall | Result | DecisionExpired | ReplayDiverged:
    """Return what the decision about the same call makes of it: a replay does not ask again."""
    same = (author, tool.name, _object(call.arguments))
    for known in decided:
        if (known.author, known.tool, _object(known.arguments)) == same and not known.is_open:
            return _decided(known, call)
    return ReplayDiverged(tool=tool.name)


def _asks_now(conversation: Conversation, asks: Asks, tool: Tool, call: ToolCall, key: str) -> bool:
    """Tell whether this call asks: some tools decide that by a function of the user's."""
    if asks.when is None:
        return True
    arguments = tool.parse(call.arguments)
    context = conversation.context(key=key)
    available = {"arguments": arguments, "run_context": context, "context": context}
    return bool(call_function(asks.when, available, conversation=conversation))


def _question(conversation: Conversation, tool: Tool, asks: Asks, call: ToolCall) -> Question:
    schemas: dict[PendingKind, dict[str, Any]] = {
        PendingKind.CONFIRMATION: tool.parameters,
        PendingKind.INPUT: only(tool.parameters, asks.fields),
    }
    return Question(
        kind=asks.kind,
        schema=schemas.get(asks.kind, {}),
        fields=asks.fields,
        decided_by=asks.decided_by,
        on_expiry=asks.on_expiry,
        expires_s=seconds(asks, conversation.pending_s),
        tool=tool.name,
        tool_call_id=call.id,
        arguments=call.arguments,
        author=conversation.definition.id,
        delegation=conversation.delegation,
    )


def _event(known: PendingCall) -> Event:
    return TOOL_CALL_PENDING(
        tool_call_id=known.tool_call_id,
        name=known.tool,
        author=known.author,
        delegation=known.delegation,
        pending_id=known.id,
        kind=known.kind,
    )


def _object(arguments: str) -> dict[str, Any]:
    parsed = json.loads(arguments or "{}")
    return parsed if isinstance(parsed, dict) else {}
