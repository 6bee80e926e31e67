"""One entry of the history, and the tool calls that it can carry."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from worker.domain.text import ID_LIMIT, mend
from worker.domain.usage import Usage


class Role(StrEnum):
    """Who speaks, in the words of the Chat Completions wire format."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    `id` is unique within its reply. `arguments` is the model's text, meant to be a JSON object, and not yet checked.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is not written yet: it has no `seq`."""

    role: Role
    author: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    delegation: str | None = None
    usage: Usage = Usage()


def size_of(said: "Iterable[Draft | Message]") -> int:
    """Return how much of a leader's history these messages make, in characters: members' do not belong to it."""
    return sum(
        len(m.content) + sum(len(c.name) + len(c.arguments) for c in m.tool_calls) for m in said if m.delegation is None
    )


@dataclass(frozen=True, slots=True)
class Message:
    """A written message. `seq` counts from 1 in its session; the messages of a run are contiguous.

    `author` is the team's id for the leader, a member's id for a member, the user's id for an input, and the tool's
    name for a tool's result. `delegation` names the delegation that a member's message belongs to, else None.
    """

    seq: int
    run_id: str
    role: Role
    author: str
    content: str
    tool_calls: tuple[ToolCall, ...]
    tool_call_id: str | None
    delegation: str | None
    created_at: datetime


def told_apart(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return *calls* with ids that are unique among them: some servers send none, or the same one twice.

    Results are matched to calls by these ids. Both ids and names come out short enough to be stored.
    """
    apart: dict[str, ToolCall] = {}
    for place, call in enumerate(calls):
        call_id = mend(call.id)[:ID_LIMIT]
        while not call_id or call_id in apart:
            call_id = f"call_{place}_{call_id}"[:ID_LIMIT]
        apart[call_id] = ToolCall(call_id, mend(call.name)[:ID_LIMIT], mend(call.arguments))
    return tuple(apart.values())


def open_calls(messages: Sequence[Message]) -> list[tuple[Message, int, ToolCall]]:
    """Return the calls that have no result yet: the reply that asked, the call's place in it, and the call.

    Only the last reply of each delegation (and of the leader) can have any: a reply is followed by the results of all
    its calls before the next reply of the same author is asked for.
    """
    last_reply: dict[str | None, Message] = {}
    answered: dict[str | None, set[str]] = {}
    for message in messages:
        if message.role is Role.ASSISTANT:
            last_reply[message.delegation] = message
            answered[message.delegation] = set()
        elif message.role is Role.TOOL and message.tool_call_id is not None:
            answered.setdefault(message.delegation, set()).add(message.tool_call_id)
    return [
        (reply, place, call)
        for delegation, reply in last_reply.items()
        for place, call in enumerate(reply.tool_calls)
        if call.id not in answered[delegation]
    ]
