"""A reply of a model, read from the documents of a server's answer: chunks of a stream, or one whole completion.

It accepts what servers send, and not only what the format says. Half an answer is no answer: without a finish reason
that is known, the stream is broken, and nothing of it is used.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

from worker import errors
from worker.domain import Extra, Reply, Usage, bounds
from worker.domain.usage import tokens
from worker.models import extras
from worker.models.call_pieces import CallPieces
from worker.models.documents import TooLarge
from worker.models.failures import ServerFailed, error_in

# Finish reasons in lower case: of OpenAI, and what compatible servers say instead.
COMPLETE = frozenset(
    {"stop", "tool_calls", "function_call", "tool_use", "end_turn", "stop_sequence", "eos", "eos_token", "complete"}
    | {"tool_call", "function_calls", "completed", "end", "done", "finished", "message_stop", "eos_found", "stopped"}
    | {"stop_token", "stop_str", "stop_string", "stop_word"}
)
CONTEXT_FULL = frozenset({"model_context_window_exceeded", "context_window_exceeded", "context_length_exceeded"})
CUT_OFF = CONTEXT_FULL | frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "max_new_tokens", "max_completion_tokens"}
    | {"max_length", "token_limit", "truncated", "error_limit"}
)
FILTERED = frozenset(
    {"content_filter", "content_filtered", "refusal", "safety", "sensitive", "recitation", "blocklist"}
    | {"prohibited_content", "spii", "guardrail_intervened", "image_safety", "moderation", "content_moderation"}
    | {"content_policy_violation", "policy_violation", "error_toxic", "blocked"}
)
TEXT_PARTS = ("text", "output_text", None)  # types of content parts that are part of the text


class Answer:
    """A reply while its documents arrive."""

    def __init__(self, model: str, on_delta: Callable[[str], None]) -> None:
        self._model = model
        self._on_delta = on_delta
        self._text = StringIO()  # grows without a piece's cost for each piece
        self._refusal = StringIO()
        self._room = extras.Room()
        self._calls = CallPieces(self._room)
        self._fields: dict[str, Any] = {}
        self._usage = Usage(model_calls=1)
        self._finish_reason = ""
        self._is_answer: bool | None = None  # None: there was no document

    def add(self, document: Any) -> bool:
        """Add the next document, and return whether it is a part of an answer. Others are ignored.

        Raises:
            ServerFailed: the document is an error.
            TooLarge: the reply is.
        """
        if isinstance(document, list):
            parts = [self.add(part) for part in document if isinstance(part, dict)]
            return any(parts)
        self._is_answer = self._is_answer or False
        if not isinstance(document, dict):
            return False
        if error := error_in(document):
            raise ServerFailed(error)
        if usage := document.get("usage"):
            self._use(usage)
        is_part = bool(usage)
        for choice in _list(document.get("choices")):
            if isinstance(choice, dict) and choice.get("index") in (0, None, "0"):
                self._is_answer = is_part = True
                self._add_choice(choice)
        if self._text.tell() + self._refusal.tell() + self._calls.size > bounds.REPLY_LENGTH:
            raise TooLarge("its text and its calls", f"{bounds.REPLY_LENGTH:,} characters")
        if self._calls.count > bounds.CALLS:
            raise TooLarge("the number of its tool calls", f"{bounds.CALLS:,}")
        return is_part

    @property
    def has_begun(self) -> bool:
        """Whether a part of an answer has come, or the number of its tokens: then it may be paid for."""
        return bool(self._is_answer) or self._usage.tokens > 0

    @property
    def is_whole(self) -> bool:
        """Whether its finish reason has come: what follows is no part of it, and may be lost."""
        return _known(self._finish_reason) in COMPLETE | CUT_OFF

    def reply(self, *, address: str) -> Reply:
        """Return the whole reply. *address*: the hash of the server's address.

        Raises:
            ModelStreamBroken, ModelAnswerInvalid, ModelRefused, ModelEmptyReply
        """
        text, calls, reason = self._text.getvalue(), self._calls.tool_calls(), _known(self._finish_reason)
        if self._is_answer is False:
            if self.has_begun:
                raise errors.ModelAnswerInvalid(model=self._model, reason="no part of it has a choice")
            raise errors.ModelNoAnswer(model=self._model, reason="no part of it has a choice")
        if not reason:
            raise errors.ModelStreamBroken(model=self._model, reason="the stream ended without a finish reason")
        if reason in FILTERED:
            words = self._refusal.getvalue() or text
            raise errors.ModelRefused(model=self._model, reason=_quoted("its content filter stopped the answer", words))
        if reason not in COMPLETE | CUT_OFF:
            words = self._finish_reason.lower()[:60]
            raise errors.ModelStreamBroken(model=self._model, reason=f"its finish reason is {words!r}")
        if not text.strip() and not calls:
            if refusal := self._refusal.getvalue().strip():
                raise errors.ModelRefused(model=self._model, reason=_quoted("it answered with a refusal", refusal))
            if reason in CONTEXT_FULL:
                raise errors.ModelContextExceeded(model=self._model, reason=f"its finish reason is {reason!r}")
            if reason in CUT_OFF:
                raise errors.ModelRefused(model=self._model, reason="its output tokens were used up before an answer")
            raise errors.ModelEmptyReply(model=self._model)
        extra = None
        if self._room.is_used_up:
            extras.log_too_large(self._model)
            calls, self._fields = [replace(call, extra=None) for call in calls], {}
        if self._fields or any(call.extra for call in calls):
            extra = Extra(self._model, address, self._fields)
        return Reply(text, tuple(calls), self._usage, "length" if reason in CUT_OFF else self._finish_reason, extra)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        if error := choice.get("error"):
            raise ServerFailed(error)
        reason = choice.get("finish_reason")
        reason = reason.get("type") if isinstance(reason, dict) else reason
        if isinstance(reason, str) and reason and _known(self._finish_reason) not in CUT_OFF | FILTERED:
            self._finish_reason = reason
        if usage := choice.get("usage"):
            self._use(usage)
        if isinstance(delta := choice.get("delta"), dict):
            self._add_delta(delta)
        if isinstance(message := choice.get("message"), dict):
            self._add_whole(message)

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        if content := delta.get("content"):
            self._add_text(_text(content))
        if refusal := delta.get("refusal"):
            self._refusal.write(_text(refusal))
        if parts := delta.get("tool_calls"):
            self._calls.add(_list(parts))
        if call := delta.get("function_call"):
            self._calls.add([{"index": "function_call", "function": call}])
        if (fields := extras.unknown(delta, extras.OF_MESSAGE)) and self._room.takes(fields):
            self._fields = extras.merge(self._fields, fields)

    def _add_whole(self, message: Mapping[str, Any]) -> None:
        """Add a whole message: the only one, or one that repeats what came in pieces."""
        text, before = _text(message.get("content")), self._text.getvalue()
        if text.startswith(before):
            self._add_text(text[len(before) :])
        if refusal := message.get("refusal"):
            self._refusal = StringIO()
            self._refusal.write(_text(refusal))
        call = message.get("function_call")
        if parts := _list(message.get("tool_calls")) or ([{"function": call}] if call else []):
            self._calls.add_whole(parts)
        if (fields := extras.unknown(message, extras.OF_MESSAGE)) and self._room.takes(fields):
            self._fields |= fields

    def _add_text(self, text: str) -> None:
        if text:
            self._text.write(text)
            self._on_delta(text)

    def _use(self, usage: Any) -> None:
        """Note a usage. Of several, parts or growing ones, the highest numbers count."""
        if not isinstance(usage, dict):
            return
        details, before = usage.get("prompt_tokens_details"), self._usage
        cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
        self._usage = Usage(
            1,
            max(before.input_tokens, tokens(usage.get("prompt_tokens", usage.get("input_tokens")))),
            max(before.cached_input_tokens, tokens(cached)),
            max(before.output_tokens, tokens(usage.get("completion_tokens", usage.get("output_tokens")))),
        )


def _text(content: Any) -> str:
    """Return the text of a content: a string, or a list of parts, of which some are thinking or media."""
    if isinstance(content, str):
        return content
    return "".join(_part_texts(_list(content)))


def _part_texts(parts: Iterable[Any]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
            yield part["text"]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, dict) else []


def _known(reason: str) -> str:
    """Return a finish reason as the sets above have it: 'content_filter' for 'Content-Filter: OTHER'."""
    return reason.lower().partition(":")[0].strip().replace("-", "_").removeprefix("finish_reason_")


def _quoted(what: str, words: str) -> str:
    return f"{what}: {' '.join(words.split())[:300]}" if words.strip() else what
