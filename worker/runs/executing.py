"""What a run that is being executed waits for: its model, a tool, or a member of its team.

Read from its messages, so it costs a run nothing: the last message of the leader or of a member says what comes next,
and its time says since when.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.clock import rfc3339
from worker.domain import Message, Role, ToolCall, open_calls
from worker.loop import delegate

NAME_LENGTH = 60  # names of tools and members come from a model
MAX_NAMED = 3  # in one sentence; the rest are counted


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that a run waits for: the reply of a model, or the result of `tool`; for the leader or a `member`."""

    since: datetime
    tool: str | None = None
    member: str | None = None

    def sentence(self) -> str:
        """Say it."""
        who = "It" if self.member is None else f"Its member {self.member!r}"
        what = "has waited for its model" if self.tool is None else f"has run the tool {self.tool!r}"
        return f"{who} {what} since {rfc3339(self.since)}."


def waiting(log: Sequence[Message]) -> list[Waiting]:
    """Return what the run with these messages waits for, the longest wait first. Contents are not needed."""
    return sorted(_waiting(log, None, None), key=lambda one: one.since)


def sentences(waits: Sequence[Waiting]) -> str:
    """Return what a run waits for as text; empty if nothing is known."""
    more = f" {len(waits) - MAX_NAMED} more are in progress." if len(waits) > MAX_NAMED else ""
    return " ".join(one.sentence() for one in waits[:MAX_NAMED]) + more


def _waiting(log: Sequence[Message], within: str | None, member: str | None) -> Iterator[Waiting]:
    own = [message for message in log if message.delegation == within]
    if not own:
        return
    opened, last = open_calls(own), own[-1]
    if not opened and (last.role is not Role.ASSISTANT or last.tool_calls):
        yield Waiting(last.created_at, member=member)
    for reply, index, call in opened:
        task = f"{reply.seq}.{index}"
        if call.name == delegate.NAME and any(message.delegation == task for message in log):
            yield from _waiting(log, task, _member(call))
        else:
            yield Waiting(reply.created_at, tool=call.name[:NAME_LENGTH], member=member)


def _member(call: ToolCall) -> str:
    try:
        return str(json.loads(call.arguments)["member_id"])[:NAME_LENGTH]
    except (ValueError, TypeError, KeyError):
        return "?"
