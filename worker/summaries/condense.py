"""What the model of a summary is sent, and what its answer says. Pure: texts in, texts out.

The prompt is bounded, however long the history is: the summary so far, and a piece of the messages behind it. A piece
never ends between a tool call and its result.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from worker.domain.chat import ChatMessage
from worker.domain.message import Message, Role
from worker.domain.text import mend

PROMPT = """\
You condense a conversation between a user and an assistant, so that it can go on without its old messages. Keep what a
later answer may need: who the user is and what they want, facts, numbers and names, what tools found, what was decided
and why, what was promised, what is still open. Leave out greetings and repetitions. Take over from the summary so far
what still holds, and correct what does not. Add nothing that was not said. At most 400 words."""
FORM = """\
Answer with a JSON object and nothing else: "summary", the new summary of everything so far, as one text, and "topics",
a list of at most ten short topics."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "topics": {"type": "array", "items": {"type": "string"}}},
    "required": ["summary", "topics"],
    "additionalProperties": False,
}
TEXT_LIMIT = 8_000  # characters of a summary: whatever a model answers, the next prompt stays bounded
TOPICS, TOPIC_LIMIT = 20, 100
LINE_LIMIT = 4_000  # characters of one message, in a piece
SHORT = 200  # so many are left of each at least, where a call has more results than fit


def prompt_hash(prompt: str | None) -> str:
    """Return the hash by which a summary tells with which prompt it was made: 64 hexadecimal digits."""
    return hashlib.sha256((prompt or PROMPT).encode()).hexdigest()


def piece(messages: Sequence[Message], *, size: int) -> int:
    """Return how many of *messages* make the next piece: at least one, about *size* characters at most.

    It ends where no tool call waits for its result; a call with more results than fit takes all of them along.
    """
    used, end = 0, 0
    waiting: set[str] = set()
    for place, message in enumerate(messages, start=1):
        used += len(_line(message))
        if used > size and end:
            break
        if message.role is Role.TOOL:
            waiting.discard(message.tool_call_id or "")
        else:
            waiting = {call.id for call in message.tool_calls}
        if not waiting:
            end = place
    return end or len(messages)


def context(prompt: str | None, so_far: str, messages: Sequence[Message], *, size: int) -> tuple[ChatMessage, ...]:
    """Return the messages of the call that makes the next version; those of a piece take about *size* characters."""
    lines = "\n".join(_lines(messages, size=size))
    before = f"The summary so far:\n{so_far}\n\n" if so_far else ""
    return (
        ChatMessage("system", f"{prompt or PROMPT}\n\n{FORM}"),
        ChatMessage("user", f"{before}The messages that follow it:\n{lines}"),
    )


def read(answer: str) -> tuple[str, list[str]]:
    """Return the summary and the topics that a model answered; an answer in no such form is the summary itself.

    Empty, if it says nothing. They can be stored: inside JSON a model can spell what a database does not take.
    """
    found = _object(answer)
    text, topics = found.get("summary"), found.get("topics")
    if not isinstance(text, str):
        return _kept(answer, TEXT_LIMIT), []
    texts = [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []
    named = [_kept(topic, TOPIC_LIMIT) for topic in texts]
    return _kept(text, TEXT_LIMIT), [topic for topic in named if topic][:TOPICS]


def _object(answer: str) -> dict[str, Any]:
    """Return the JSON object in *answer*, whatever a model put around it; empty, if there is none.

    One that was cut off, by a limit of the model's tokens, is closed where it ends.
    """
    begin, end = answer.find("{"), answer.rfind("}")
    whole, cut = answer[begin : end + 1], answer[max(begin, 0) :].rstrip()
    for text in (whole, *(cut + closing for closing in ('"}', '"]}', "]}", "}"))):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _lines(messages: Sequence[Message], *, size: int) -> list[str]:
    """Return a line for each message; those of a piece that could not be made smaller are cut to their share of it."""
    whole = [_line(message) for message in messages]
    if sum(map(len, whole)) <= size:
        return whole
    share = max(SHORT, size // len(messages))
    return [_bounded(line, share) for line in whole]


def _line(message: Message) -> str:
    calls = "; ".join(f"called {call.name}({call.arguments})" for call in message.tool_calls)
    said = " ".join(part for part in (message.content, calls) if part)
    speaker = f"{message.author} returned" if message.role is Role.TOOL else message.role.value
    return _bounded(f"{speaker}: {said}", LINE_LIMIT)


def _kept(text: str, limit: int) -> str:
    return _bounded(mend(text).strip(), limit)


def _bounded(text: str, limit: int) -> str:
    mark = " … (cut)"
    return text if len(text) <= limit else text[: limit - len(mark)] + mark
