"""Forms of a context that some models ask for, beyond what every server accepts. Pure.

A form is known to be needed by the name of the model or its server, or it is learned from the words of a refusal.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from worker.domain import ChatMessage, ToolCall

_NINE = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True, slots=True)
class Form:
    """`apply` puts messages into this form. It is for models whose name or server `models` finds, or that refuse so."""

    apply: Callable[[Sequence[ChatMessage]], Sequence[ChatMessage]]
    models: re.Pattern[str] | None = None
    refusal: re.Pattern[str] | None = None


def of_model(model: str, base_url: str | None) -> tuple[Form, ...]:
    """Return the forms that a model is known to need."""
    return tuple(form for form in FORMS if form.models is not None and form.models.search(f"{model} {base_url or ''}"))


def of_refusal(error: str, messages: Sequence[ChatMessage], used: Collection[Form]) -> Form | None:
    """Return the form that a server asks for by refusing these messages, if it was not used and changes them."""
    asked = (form for form in FORMS if form.refusal is not None and form.refusal.search(error))
    return next((form for form in asked if form not in used and tuple(form.apply(messages)) != tuple(messages)), None)


def nine_letters(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with 9 letters or digits as ids of calls: their own, or the first 9 digits of their hash."""

    def short(call: ToolCall, used: set[str]) -> str:
        new = call.id if _NINE.fullmatch(call.id) else _hash(call.id)
        while new in used:
            new = _hash(f"{call.id} {new}")
        return new

    return _renamed(messages, short)


def counted_calls(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with ids that count the calls, such as 'functions.search:2'."""
    return _renamed(messages, lambda call, used: f"functions.{call.name}:{len(used)}")


def bare_calls(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages without the texts beside calls."""
    return [replace(m, content="") if m.tool_calls and m.content else m for m in messages]


def texts_beside_calls(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with a text beside all calls, which is a space where there is none."""
    return [replace(m, content=" ") if m.tool_calls and not m.content else m for m in messages]


def without_system(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with the system's text at the beginning of the first user's message."""
    if len(messages) < 2 or messages[0].role != "system":
        return messages
    system, user, *others = messages
    return [replace(user, content=f"{system.content}\n\n{user.content}"), *others]


def single_calls(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with one call in each reply, which its result follows."""
    single: list[ChatMessage] = []
    results = {m.tool_call_id: m for m in messages if m.tool_call_id is not None}
    for message in messages:
        for n, call in enumerate(message.tool_calls):
            single.append(replace(message, content="" if n else message.content, tool_calls=(call,)))
            single.extend([results[call.id]] if call.id in results else [])
        if not message.tool_calls and message.tool_call_id is None:
            single.append(message)
    return single


# Mistral's models and chat templates; Kimi's models, which call tools worse after ids of another form; older models of
# Mistral; the templates of Llama 3; servers that take no null as content; Gemma's models and templates.
FORMS = (
    Form(
        nine_letters,
        re.compile(r"mistral|mixtral|codestral|ministral|magistral|devstral|pixtral|voxtral|mathstral", re.I),
        re.compile(
            r"tool[ _-]?(calls?|use)?(\[\d+\])?[ _.-]?ids?\b.*(length|alphanumeric|\b9\b|a-z|pattern|format)",
            re.I | re.S,
        ),
    ),
    Form(counted_calls, re.compile(r"kimi|moonshot", re.I)),
    Form(bare_calls, refusal=re.compile(r"content or tool_calls, but not both", re.I)),
    Form(single_calls, refusal=re.compile(r"only supports? single tool[ _-]?calls?", re.I)),
    Form(texts_beside_calls, refusal=re.compile(r"content\b.{0,99}(\bstring|\bnull|\bnone\b)", re.I | re.S)),
    Form(
        without_system,
        refusal=re.compile(
            r"system role (is )?not supported|not support.{0,40}\bsystem\b|developer instruction is not enabled", re.I
        ),
    ),
)


def _renamed(messages: Iterable[ChatMessage], rename: Callable[[ToolCall, set[str]], str]) -> list[ChatMessage]:
    """Return the messages with new ids of calls. *rename* gets a call and the new ids before it."""
    new: dict[str, str] = {}
    used: set[str] = set()
    renamed = []
    for message in messages:
        for call in message.tool_calls:
            new[call.id] = rename(call, used)
            used.add(new[call.id])
        if message.tool_calls:
            message = replace(message, tool_calls=tuple(replace(c, id=new[c.id]) for c in message.tool_calls))
        elif message.tool_call_id is not None:
            message = replace(message, tool_call_id=new.get(message.tool_call_id, message.tool_call_id))
        renamed.append(message)
    return renamed


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:9]
