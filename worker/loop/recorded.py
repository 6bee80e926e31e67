"""The tool results of an earlier run, for the equal calls of its replay.

Two calls are equal if tool, JSON arguments and author match; a member's author includes the leaders that delegated to
it. The k-th of several equal calls gets the k-th result. k is counted in the log, so a replay that is taken over finds
the same result again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

from worker.domain import Message, Role, ToolCall
from worker.errors import ReplayDiverged
from worker.loop.tools import NO_RESULT

Key = tuple[tuple[str, ...], str, str]
_PREFIX, _SUFFIX = NO_RESULT.split("{because}")


class Recorded:
    """The tool results in the messages of one run."""

    def __init__(self, log: Sequence[Message]) -> None:
        replies: dict[str | None, Message] = {}  # the last reply of each delegation, to which a result belongs
        results: dict[tuple[int, str | None], str] = {}
        for message in log:
            if message.tool_calls:
                replies[message.delegation] = message
            elif message.role is Role.TOOL and not _is_none(message.content):
                results[replies[message.delegation].seq, message.tool_call_id] = message.content
        self._results: dict[Key, list[str | None]] = {}
        for reply, index, key in _keys(log):
            self._results.setdefault(key, []).append(results.get((reply.seq, reply.tool_calls[index].id)))

    def result(self, log: Sequence[Message], reply: Message, index: int) -> str:
        """Return the recorded result of a call in *log*, the messages of the replay.

        Raises:
            ReplayDiverged: no equal call was recorded.
        """
        name = reply.tool_calls[index].name
        calls = [((r.seq, i), key) for r, i, key in _keys(log, name=name)]
        own_key = next(key for position, key in calls if position == (reply.seq, index))
        earlier = sum(key == own_key and position < (reply.seq, index) for position, key in calls)
        results = self._results.get(own_key, [])
        text = results[earlier] if earlier < len(results) else None
        if text is None:
            raise ReplayDiverged(tool=name)
        return text


def _keys(log: Sequence[Message], *, name: str | None = None) -> Iterator[tuple[Message, int, Key]]:
    """Yield the calls in *log*, or those of the tool *name*, in order: reply, index in it, and a key for equality."""
    replies = {m.seq: m for m in log if m.tool_calls}
    for reply in replies.values():
        for index, call in enumerate(reply.tool_calls):
            if name in (None, call.name):
                yield reply, index, (_authors(replies, reply), call.name, canonical(call))


def _authors(replies: Mapping[int, Message], reply: Message) -> tuple[str, ...]:
    """Return the chain of authors: the leader, then each member that a task was delegated to."""
    if reply.delegation is None:
        return (reply.author,)
    delegated_in = int(reply.delegation.partition(".")[0])  # the seq of the reply that delegated
    return (*_authors(replies, replies[delegated_in]), reply.author)


def _is_none(text: str) -> bool:
    """Whether a result only says that the run ended before there was one."""
    return text.startswith(_PREFIX) and text.endswith(_SUFFIX)


def canonical(call: ToolCall) -> str:
    """Return a text that is the same for equal arguments, such as 1 and 1.0, or other orders of keys."""
    try:
        return json.dumps(json.loads(call.arguments or "{}", parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return call.arguments


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number
