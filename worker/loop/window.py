"""How much of a conversation is sent with one call of its model, so that it fits into the model's context.

The summary, the messages of earlier runs and the conversation's own messages share the tokens of a context. If they do
not fit, tool results are shortened first, the oldest most; then the oldest messages are left out. The input is sent
whole. The rows stay whole: a shortened text ends with how many characters follow, and the model can read them with a
tool (`history_tools`).

The size of text is an estimate. It is corrected by the tokens that the model counted, and when the model says that a
context was too long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from worker.domain import CHARS_PER_TOKEN, ChatRequest, Message, Role, begin_of, weight
from worker.errors import ModelContextExceeded
from worker.loop.conversation import History

READ_CHAT, READ_CALLS, READ_REST = "get_chat_history", "get_tool_call_history", "read_rest_of_message"
READS_HISTORY = frozenset({READ_CHAT, READ_CALLS, READ_REST})  # tools whose results a later run does not repeat
UNLIMITED = 1 << 40
HEAVIEST = 6  # no character weighs more
LEAST = 400  # of each tool result that is sent, unless it is shorter
LINE = 120  # the line at the end of a shortened text
OWN_RESULT = 4  # one result takes at most this part of the context: a quarter
EARLIER_TEXT, EARLIER_RESULT = 4, 16  # parts for a message, and for a tool result, of an earlier run
HISTORY = 4  # the part that is left for the summary and earlier runs, if there are any
CORRECTED = 1.2  # an estimate that is wrong by less than this factor is not corrected, so that contexts begin alike
MEASURED = 2_000  # the smallest weight by which an estimate is corrected: fixed costs are small beside it
MOST = 8.0  # the largest correction
MARGIN = 0.8  # how much of a limit is used after a context was too long
SHRINK = 0.25  # how much is sent then if the server does not say its limit


@dataclass(frozen=True, slots=True)
class Fitted:
    """The part of a conversation that is sent. `cut`: a message is shortened."""

    history: History
    log: Sequence[Message]
    cut: bool

    @property
    def weight(self) -> int:
        """Its estimated size."""
        return weight(self.history.summary) + sum(map(_cost, (*self.history.messages, *self.log)))


class Window:
    """The size of the contexts of one conversation. It learns from the model's answers."""

    def __init__(self, context_tokens: int | None) -> None:
        self._size = UNLIMITED if context_tokens is None else context_tokens * CHARS_PER_TOKEN
        self._ratio = 1.0  # tokens that the model counted, to our estimate
        self._was_exceeded = False

    def fit(self, history: History, log: Sequence[Message]) -> Fitted:
        """Return what is sent of a conversation with this history and these own messages."""
        return fit(history, log, size=int(self._size / self._ratio))

    def learn(self, request: ChatRequest, input_tokens: int) -> None:
        """Correct the estimate by the tokens that the model counted for *request*. A window only gets smaller."""
        counted = input_tokens * CHARS_PER_TOKEN
        if counted > MEASURED and not self._was_exceeded:
            ratio = counted / max(1, weight_of(request))
            self._ratio = max(self._ratio, min(MOST, ratio if ratio > CORRECTED else 1.0))

    def shrink(self, request: ChatRequest, fitted: Fitted, error: ModelContextExceeded) -> None:
        """Make the next contexts as much smaller as the model's server says about *request*."""
        estimate = weight_of(request)
        part = part_that_fits(error, estimate)
        self._size = max(LEAST, fitted.weight - int(estimate * (1 - part)))
        self._ratio, self._was_exceeded = 1.0, True


def part_that_fits(error: ModelContextExceeded, estimate: int) -> float:
    """Return the part of a request that its server accepts, of a request with an estimated weight of *estimate*."""
    if error.limit is None:
        return SHRINK
    if error.size is not None:
        return MARGIN * error.limit / error.size
    return min(0.5, max(0.05, MARGIN * error.limit * CHARS_PER_TOKEN / max(1, estimate)))


def weight_of(request: ChatRequest) -> int:
    """Return the estimated size of a whole request."""
    messages = sum(
        weight(m.content) + sum(len(c.name) + weight(c.arguments) for c in m.tool_calls) for m in request.messages
    )
    return messages + sum(len(t.name) + len(t.description) + len(str(t.parameters)) for t in request.tools)


def fit(history: History, log: Sequence[Message], *, size: int) -> Fitted:
    """Return what is sent of a conversation: about *size* in all, and the input, `log[0]`, in any case."""
    if _is_small(history, log, size=size):
        return Fitted(history, log, cut=False)
    summary = begin_of(history.summary, size // HISTORY)
    has_history = bool(history.messages or summary)
    own, own_missing = _fit_log(log, size=size - size // HISTORY if has_history else size)
    used = weight(summary) + sum(map(_cost, own))
    kept, missing = _fit_history(history, size=size, room=size - used)
    sent = (*kept, *own)
    fitted = replace(history, messages=tuple(kept), summary=summary, missing=missing, own_missing=own_missing)
    cut = any(READ_REST in m.content for m in sent) or any(c.name == READ_REST for m in sent for c in m.tool_calls)
    return Fitted(fitted, own, cut)


def _is_small(history: History, log: Sequence[Message], *, size: int) -> bool:
    """Return whether a conversation without tools fits in any case. Most do, and this is quickly seen."""
    size = min(size // HISTORY, size // EARLIER_TEXT) // HEAVIEST - len(history.summary)
    for message in (*history.messages, *log):
        size -= len(message.content)
        if size < 0 or message.role is Role.TOOL or message.tool_calls:
            return False
    return size >= 0 and not history.lengths


def _fit_log(log: Sequence[Message], *, size: int) -> tuple[Sequence[Message], tuple[int, int] | None]:
    """Return the messages of this run, or of this task, that are sent, and the first and last seq of those left out."""
    limit = max(LEAST, size // OWN_RESULT)
    costs = {m.seq: _cost(m) for m in log}
    if sum(costs.values()) <= size and not any(m.role is Role.TOOL and costs[m.seq] > limit for m in log):
        return log, None
    room = size - sum(costs[m.seq] for m in log if m.role is not Role.TOOL)
    turns = _groups(log, Role.ASSISTANT)
    older = sum(m.role is Role.TOOL for m in log)
    for index in range(len(turns) - 1, -1, -1):  # the newest results first
        older -= sum(m.role is Role.TOOL for m in turns[index])
        reserved = min(size // 2, older * (LEAST + LINE))
        turns[index] = _squeeze(turns[index], room=room - reserved, limit=limit)
        room -= sum(_cost(m) for m in turns[index] if m.role is Role.TOOL)
    left_out = 0
    while room < 0 and left_out < len(turns) - 2:  # the input, and the newest turn stay
        left_out += 1
        room += sum(map(_cost, turns[left_out]))
    sent = [m for turn in (turns[0], *turns[1 + left_out :]) for m in turn]
    return sent, (turns[1][0].seq, turns[left_out][-1].seq) if left_out else None


def _fit_history(history: History, *, size: int, room: int) -> tuple[list[Message], tuple[int, int] | None]:
    """Return the newest messages of earlier runs that fit into *room*, and the first and last seq of those left out."""
    kept: list[Message] = []
    for run in reversed(_groups(history.messages, Role.USER)):
        bounded = [_bounded(m, size=size, length=history.lengths.get(m.seq)) for m in run]
        if sum(map(_cost, bounded)) > room:
            texts = sum(_cost(m) for m in bounded if m.role is not Role.TOOL)
            whole = [m if _is_result(m) else short for m, short in zip(run, bounded, strict=True)]
            limit = max(LEAST, size // EARLIER_RESULT)
            bounded = _squeeze(whole, room=room - texts, limit=limit, lengths=history.lengths)
            if sum(map(_cost, bounded)) > room:
                break
        kept = bounded + kept
        room -= sum(map(_cost, bounded))
    if len(kept) == len(history.messages):
        return kept, history.missing
    first = history.messages[0].seq if history.missing is None else history.missing[0]
    last = (kept[0].seq if kept else history.messages[-1].seq + 1) - 1
    first = max(first, history.covers_through_seq + 1)
    return kept, (first, last) if first <= last else None


def _groups(messages: Sequence[Message], begin: Role) -> list[list[Message]]:
    """Return *messages* in groups: each message with role *begin* begins one."""
    groups: list[list[Message]] = []
    for message in messages:
        if message.role is begin or not groups:
            groups.append([])
        groups[-1].append(message)
    return groups


def _squeeze(
    messages: Sequence[Message], *, room: int, limit: int, lengths: Mapping[int, int] | None = None
) -> list[Message]:
    """Return *messages* with their tool results shortened, so that these share *room* and none is above *limit*."""
    results = sorted((m for m in messages if m.role is Role.TOOL), key=_cost)
    shortened: dict[int, Message] = {}
    for index, result in enumerate(results):
        own_limit = limit if _is_result(result) else 2 * limit  # a page of the history is bounded already
        share = max(LEAST, min(own_limit, room // (len(results) - index)))
        short = shorten(result, share, length=(lengths or {}).get(result.seq))
        shortened[result.seq] = short
        room -= _cost(short)
    return [shortened.get(m.seq, m) for m in messages]


def _bounded(message: Message, *, size: int, length: int | None) -> Message:
    """Return a message of an earlier run as it is sent, if there is room."""
    if message.role is Role.TOOL and not _is_result(message):
        text = f"({message.author} returned {length or len(message.content):,} characters; call it again to read them.)"
        return replace(message, content=text) if len(text) < len(message.content) else message
    part = EARLIER_RESULT if message.role is Role.TOOL else EARLIER_TEXT
    return shorten(message, max(LEAST, size // part), length=length)


def _is_result(message: Message) -> bool:
    return message.role is Role.TOOL and message.author not in READS_HISTORY


def shorten(message: Message, limit: int, *, length: int | None = None) -> Message:
    """Return *message* with at most about *limit* of its text, and a line that says how to read on.

    *length*: the characters of its whole text, if only the beginning was read.
    """
    whole = length or len(message.content)
    text = begin_of(message.content, limit)
    if len(text) == whole:
        return message
    return replace(message, content=f"{text}\n{rest_line(message.seq, begin=len(text), length=whole)}")


def rest_line(seq: int, *, begin: int, length: int) -> str:
    """Return the line at the end of a shortened text."""
    return (
        f"(Cut here: {length - begin:,} more characters follow. "
        f"To read on, call {READ_REST} with message={seq} and begin={begin}.)"
    )


def _cost(message: Message) -> int:
    return weight(message.content) + sum(len(c.name) + weight(c.arguments) for c in message.tool_calls)
