"""Ids of tool calls in the form that a model asks for. Pure; most models take the ids of any provider.

Mistral's models take 9 letters or digits, and their chat templates refuse others on any server. Kimi's models were
trained with ids that count calls, and call tools worse after other ids.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from worker.domain import ChatMessage, ToolCall

Form = Callable[[ToolCall, set[str]], str]  # a call and the new ids of the calls before it → its new id
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_REFUSED = re.compile(r"tool[ _-]?(call)?[ _-]?ids?\b.*(length|alphanumeric|\b9\b|a-z|pattern|format)", re.I | re.S)


def nine_letters(call: ToolCall, used: set[str]) -> str:
    """Return the call's id, or the first 9 digits of its hash."""
    new = call.id if _NINE.fullmatch(call.id) else _hash(call.id)
    while new in used:
        new = _hash(f"{call.id} {new}")
    return new


def counted(call: ToolCall, used: set[str]) -> str:
    """Return an id that counts the calls of the context, such as 'functions.search:2'."""
    return f"functions.{call.name}:{len(used)}"


FORMS: tuple[tuple[re.Pattern[str], Form], ...] = (
    (
        re.compile(r"mistral|mixtral|codestral|ministral|magistral|devstral|pixtral|voxtral|mathstral", re.I),
        nine_letters,
    ),
    (re.compile(r"kimi|moonshot", re.I), counted),
)


def form_of(model: str, base_url: str | None) -> Form | None:
    """Return the form that the model's id, or its server's address, is known to need. None: any id will do."""
    return next((form for names, form in FORMS if names.search(f"{model} {base_url or ''}")), None)


def is_refused(error: str) -> bool:
    """Whether a server's error names the form of the ids of tool calls."""
    return _REFUSED.search(error) is not None


def renamed(messages: Iterable[ChatMessage], form: Form) -> tuple[ChatMessage, ...]:
    """Return *messages* with the ids of their calls and results in this form. Ids must be unique before."""
    new: dict[str, str] = {}
    used: set[str] = set()
    result = []
    for message in messages:
        for call in message.tool_calls:
            new[call.id] = form(call, used)
            used.add(new[call.id])
        if message.tool_calls:
            message = replace(message, tool_calls=tuple(replace(c, id=new[c.id]) for c in message.tool_calls))
        elif message.tool_call_id is not None:
            message = replace(message, tool_call_id=new.get(message.tool_call_id, message.tool_call_id))
        result.append(message)
    return tuple(result)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:9]
