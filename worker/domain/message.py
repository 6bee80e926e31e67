"""One entry of the history, and its tool calls."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any

from worker.domain.fields import HIDDEN, RunId, Time, field, in_place
from worker.domain.text import ID_LIMIT, mend
from worker.domain.usage import Usage


class Role(StrEnum):
    """The role of a message's author, as in the Chat Completions format."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Extra:
    """What is stored of a reply besides its text and calls. The API, events and comparisons leave it out.

    `fields`: those that the provider wants back with the message, unchanged; `ToolCall.extra` has those of a call. Only
    the model `model` at the address with the hash `address` gets them: another one may refuse them. `cut_off`: the
    reply reached the model's limit of output tokens.
    """

    model: str = ""
    address: str = ""
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that a model asked for."""

    id: Annotated[str, field("Unique within its message.", "call_1")]
    name: Annotated[str, field("Name of the tool.", "open_ticket")]
    arguments: Annotated[str, field("JSON as the model wrote it; not checked.", '{"subject": "parcel"}')]
    extra: Annotated[dict[str, Any] | None, HIDDEN] = dataclasses.field(default=None, compare=False, repr=False)


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
    extra: Extra | None = None


def size_of(messages: "Iterable[Draft | Message]") -> int:
    """Return the size of these messages in a leader's history, in characters. Members' messages do not count."""
    return sum(
        len(m.content) + sum(len(c.name) + len(c.arguments) for c in m.tool_calls)
        for m in messages
        if m.delegation is None
    )


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the history. The messages of a run are contiguous.

    `author` is the team's id for the leader, a member's id for a member, the user's id for an input, and the tool's
    name for a tool's result.
    """

    seq: Annotated[int, field("Position in its session, from 1, without gaps.", 7)]
    run_id: RunId
    role: Annotated[Role, in_place(Role), field("Kind of author.", "assistant")]
    author: Annotated[str, field("The user, the team, a member or the tool.", "support")]
    delegation: Annotated[str | None, field("The delegation of a member; null for the leader.", "2.0", None)]
    content: Annotated[str, field("Text of the message.", "I have opened a ticket.")]
    tool_calls: Annotated[tuple[ToolCall, ...], field("Tool calls that a reply asks for.")]
    tool_call_id: Annotated[str | None, field("The call that a tool's result answers.", "call_1", None)]
    created_at: Annotated[Time, field("When it was written.")]
    extra: Annotated[Extra | None, HIDDEN] = dataclasses.field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A message, of whose text maybe only a part was read. `length`: the characters of its whole text."""

    message: Message
    length: int


def with_unique_ids(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Return *calls* with unique ids, because some servers send no id, or one id twice. Ids match results to calls.

    Ids and names are cut to a length that can be stored.
    """
    unique: dict[str, ToolCall] = {}
    for index, call in enumerate(calls):
        call_id = mend(call.id)[:ID_LIMIT]
        while not call_id or call_id in unique:
            call_id = f"call_{index}_{call_id}"[:ID_LIMIT]
        unique[call_id] = replace(call, id=call_id, name=mend(call.name)[:ID_LIMIT], arguments=mend(call.arguments))
    return tuple(unique.values())


def open_calls(messages: Sequence[Message]) -> list[tuple[Message, int, ToolCall]]:
    """Return the calls that have no result yet: the reply, the call's index in it, and the call.

    Only the last reply of the leader and of each delegation can have any, because all its calls get results before the
    next model call.
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
        (reply, index, call)
        for delegation, reply in last_reply.items()
        for index, call in enumerate(reply.tool_calls)
        if call.id not in answered[delegation]
    ]


def calls_with_results(messages: Sequence[Message]) -> list[tuple[ToolCall, str | None]]:
    """Return the calls of *messages*, in order, each with its result; None: it has none yet.

    Ids of calls are unique in their reply alone, so a result belongs to the last reply before it.
    """
    last_reply: dict[str | None, int] = {}
    results: dict[tuple[int, str | None], str] = {}
    for message in messages:
        if message.role is Role.ASSISTANT:
            last_reply[message.delegation] = message.seq
        elif message.role is Role.TOOL and message.delegation in last_reply:
            results[last_reply[message.delegation], message.tool_call_id] = message.content
    return [(call, results.get((message.seq, call.id))) for message in messages for call in message.tool_calls]
