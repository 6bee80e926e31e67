"""The results that the tools of an earlier run returned, to be served to the same calls of its replay.

The k-th of several equal calls gets the k-th result. Equal are calls of one tool with equal arguments, as JSON and not
as text, by the same author: a leader, or a member to whom the same leaders delegated. Which of them a call is, is
counted in the log, so a replay that is taken over looks up the same again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from worker.domain.message import Message, Role, ToolCall
from worker.errors import ReplayDiverged
from worker.loop.tools import NO_RESULT

Key = tuple[tuple[str, ...], str, str]
_BEFORE, _BEHIND = NO_RESULT.split("{because}")


class Recorded:
    """What the tools of one run returned, by its messages."""

    def __init__(self, log: Sequence[Message]) -> None:
        replies: dict[str | None, Message] = {}  # the last one of each delegation, which a result belongs to
        results: dict[tuple[int, str | None], str] = {}
        for message in log:
            if message.tool_calls:
                replies[message.delegation] = message
            elif message.role is Role.TOOL and not _is_none(message.content):
                results[replies[message.delegation].seq, message.tool_call_id] = message.content
        self._results: dict[Key, list[str | None]] = {}
        for reply, place, key in _keys(log):
            self._results.setdefault(key, []).append(results.get((reply.seq, reply.tool_calls[place].id)))

    def result(self, log: Sequence[Message], reply: Message, place: int) -> str:
        """Return the recorded result of a call in *log*, the messages of the replay so far.

        Raises:
            ReplayDiverged: there is none.
        """
        name = reply.tool_calls[place].name
        asked = [(r.seq, p, key) for r, p, key in _keys(log, name=name)]
        own = next(key for seq, p, key in asked if (seq, p) == (reply.seq, place))
        before = sum(key == own and (seq, p) < (reply.seq, place) for seq, p, key in asked)
        found = self._results.get(own, [])[before : before + 1]
        if not found or found[0] is None:
            raise ReplayDiverged(tool=name)
        return found[0]


def _keys(log: Sequence[Message], *, name: str | None = None) -> Iterator[tuple[Message, int, Key]]:
    """Yield the calls in *log*, or those of the tool *name*, in their order, each with what tells it from others."""
    replies = {m.seq: m for m in log if m.tool_calls}
    for reply in replies.values():
        for place, call in enumerate(reply.tool_calls):
            if name in (None, call.name):
                yield reply, place, (_authors(replies, reply), call.name, canonical(call))


def _authors(replies: Mapping[int, Message], reply: Message) -> tuple[str, ...]:
    """Return who asked: the leader, then each member that the one before it delegated to."""
    if reply.delegation is None:
        return (reply.author,)
    above = int(reply.delegation.partition(".")[0])  # the seq of the reply that delegated
    return (*_authors(replies, replies[above]), reply.author)


def _is_none(text: str) -> bool:
    """Tell whether a result says that there was none when its run ended."""
    return text.startswith(_BEFORE) and text.endswith(_BEHIND)


def canonical(call: ToolCall) -> str:
    """Return a text that is the same for equal arguments: JSON has one kind of number, and no order of keys."""
    try:
        return json.dumps(json.loads(call.arguments or "{}", parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return call.arguments


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
