"""The limits of one run: turns, tool calls and tokens. The lease keeper enforces seconds, since it can interrupt."""

from collections.abc import Iterable

from worker.domain import Message, Role, Usage
from worker.errors import LimitReached
from worker.loop.definition import Limits


def check_turns(limits: Limits, log: Iterable[Message], usage: Usage) -> None:
    """Check that the run may make another model call.

    It counts written messages, so a run that was taken over keeps its count.

    Raises:
        LimitReached
    """
    turns = sum(m.role is Role.ASSISTANT for m in log)
    if limits.turns is not None and turns >= limits.turns:
        raise LimitReached(limit=limits.turns, what="turns", option="Limits(turns=…)")
    if limits.tokens is not None and usage.tokens >= limits.tokens:
        raise LimitReached(limit=limits.tokens, what="tokens", option="Limits(tokens=…)")


def check_calls(limits: Limits, log: Iterable[Message]) -> None:
    """Check that the run may make the tool calls that its model asked for.

    Raises:
        LimitReached
    """
    if limits.tool_calls is not None and sum(len(m.tool_calls) for m in log) > limits.tool_calls:
        raise LimitReached(limit=limits.tool_calls, what="tool calls", option="Limits(tool_calls=…)")
