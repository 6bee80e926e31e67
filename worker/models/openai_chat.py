"""Any model with a Chat Completions API, through the `openai` package.

Errors are divided by whether a retry can help. The package raises nothing for a stream that ends early, and a raw
JSONDecodeError for a chunk that is not JSON: both are handled here. Its retries are off: the run retries, which keeps
what it has written and holds no slot while it waits.
"""

import asyncio
import email.utils
import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import openai

from worker import clock, errors
from worker.domain import ChatMessage, ChatRequest, Reply, ToolCall, ToolDescription, Usage, mend
from worker.models import context_limit, forms
from worker.settings import Settings

# An AsyncOpenAI works only on the event loop that first used it.
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str | None, str | None], openai.AsyncOpenAI]]
_clients = weakref.WeakKeyDictionary()
# Names of request parameters that are not sent, and of the package's options for them.
OPTIONS = {"extra_headers": "headers", "extra_query": "params", "extra_body": "extra_json"}
NO_ACCESS = (401, 403)
# Models by base_url and id.
_without_schema: set[tuple[str | None, str]] = set()  # they refused a schema for the answer
_learned: dict[tuple[str | None, str], tuple[forms.Form, ...]] = {}  # they refused messages in another form


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """A model by its name: `OpenAIChat(id="gpt-5-mini")`.

    `api_key` and `base_url` default to OPENAI_API_KEY and OPENAI_BASE_URL. `request_params` are sent with every call,
    such as `{"temperature": 0.2}`.
    """

    provider: ClassVar[str] = "openai"  # whose API it uses, as named in traces

    id: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    request_params: Mapping[str, Any] = field(default_factory=dict)

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Answer *request*; see `ChatModel.reply`.

        Raises:
            ModelRateLimited, ModelUnavailable, ModelSilent, ModelStreamBroken: a retry can help.
            ModelRefused, ModelEmptyReply: a retry cannot help.
        """
        if request.answer_schema is None or self._server in _without_schema:
            return await self._ask(replace(request, answer_schema=None), on_delta)
        try:
            return await self._ask(request, on_delta)
        except errors.ModelError as error:
            if not _may_be_the_schema(error):
                raise
        # The prompt describes the answer too. If this is refused as well, the schema was not the cause.
        reply = await self._ask(replace(request, answer_schema=None), on_delta)
        _without_schema.add(self._server)
        return reply

    @property
    def _server(self) -> tuple[str | None, str]:
        return self.base_url, self.id

    async def _ask(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        answer = _Answer(on_delta)
        try:
            async with await self._start_stream(request) as stream:
                await answer.read(stream)
            return self._validate_reply(answer)
        except errors.ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - an invalid chunk can raise any error in the package
            raise self._to_model_error(error, silence_s=request.silence_s) from None

    async def _start_stream(self, request: ChatRequest) -> openai.AsyncStream[object]:
        """Start the stream. If the server refuses a form of the messages, ask again in the other form."""
        used = known = _learned.get(self._server) or forms.of_model(self.id, self.base_url)
        while True:
            try:
                stream = await self._create(self._body(request, used), silence_s=request.silence_s)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                form = forms.of_refusal(str(error), request.messages, used)
                if form is None:
                    raise
                used = (*used, form)
            else:
                if used != known:
                    _learned[self._server] = used
                return stream

    def _body(self, request: ChatRequest, used: Iterable[forms.Form]) -> dict[str, Any]:
        messages: Sequence[ChatMessage] = request.messages
        for form in used:
            messages = form.apply(messages)
        return {
            **self.request_params,
            **_response_format(request),
            "model": self.id,
            "messages": [_message(m) for m in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_tools(request.tools),
        }

    async def _create(self, body: dict[str, Any], *, silence_s: float) -> openai.AsyncStream[object]:
        """Send and receive plain JSON: with the package's own classes a reply takes twice the processor time."""
        options: Any = {name: body.pop(param) for param, name in OPTIONS.items() if param in body}
        options["timeout"] = openai.Timeout(silence_s, connect=min(10.0, silence_s))
        return await self._client().post(
            "/chat/completions",
            body=body,
            options=options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
            cast_to=object,
        )

    def _client(self) -> openai.AsyncOpenAI:
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        key = (self.base_url, self.api_key)
        if key not in clients:
            clients[key] = openai.AsyncOpenAI(api_key=self.api_key, base_url=self.base_url, max_retries=0)
        return clients[key]

    def _validate_reply(self, answer: "_Answer") -> Reply:
        if answer.finish_reason is None:
            raise errors.ModelStreamBroken(model=self.id, reason="the stream ended without a finish reason")
        if answer.finish_reason == "content_filter":
            raise errors.ModelRefused(model=self.id, reason="its content filter stopped the answer")
        reply = answer.reply()
        if not reply.content.strip() and not reply.tool_calls:
            raise errors.ModelEmptyReply(model=self.id)
        return reply

    def _to_model_error(self, error: Exception, *, silence_s: float) -> errors.ModelError:
        """Return *error* as a ModelError. The provider's message is kept, except where it could hold a key."""
        match error:
            case openai.APITimeoutError():
                return errors.ModelSilent(model=self.id, silence_s=silence_s)
            case openai.APIConnectionError():
                return errors.ModelUnavailable(model=self.id, reason="the connection failed or was cut")
            case openai.APIError() if (overflow := _overflow(error)) is not None:
                reason = _reason(error) if isinstance(error, openai.APIStatusError) else mend(error.message)[:300]
                return errors.ModelContextExceeded(
                    model=self.id, reason=reason, limit=overflow.limit, size=overflow.size
                )
            case openai.RateLimitError() if error.code != "insufficient_quota":
                wait = _retry_after(error.response.headers)
                return errors.ModelRateLimited(model=self.id, reason=_reason(error), retry_after_s=wait)
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                reason = f"{error.status_code}, check OPENAI_API_KEY"
                return errors.ModelRefused(model=self.id, reason=reason, http_status=error.status_code)
            case openai.APIStatusError() if error.status_code >= 500 or error.status_code in (408, 409):
                wait = _retry_after(error.response.headers)
                return errors.ModelUnavailable(
                    model=self.id, reason=_reason(error), retry_after_s=wait, http_status=error.status_code
                )
            case openai.APIStatusError():
                return errors.ModelRefused(model=self.id, reason=_reason(error), http_status=error.status_code)
            case openai.APIError():
                return errors.ModelStreamBroken(model=self.id, reason="it sent an error in its stream")
            case openai.OpenAIError():
                return errors.ModelRefused(model=self.id, reason="OPENAI_API_KEY is not set")
            case UnicodeEncodeError():
                return errors.ModelRefused(model=self.id, reason="OPENAI_API_KEY or a message cannot be encoded")
            case json.JSONDecodeError() | AttributeError() | TypeError() | UnicodeDecodeError() | RecursionError():
                return errors.ModelStreamBroken(model=self.id, reason="it sent an invalid Chat Completions chunk")
        raise error


def default_model(settings: Settings) -> OpenAIChat:
    """Return the model that TEAM_SESSIONS_MODEL names, for teams that define none."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return OpenAIChat(settings.model, api_key=key, base_url=settings.openai_base_url)


class _Answer:
    """A reply while its chunks arrive."""

    def __init__(self, on_delta: Callable[[str], None]) -> None:
        self.finish_reason: str | None = None
        self._on_delta = on_delta
        self._text: list[str] = []
        self._calls: list[dict[str, str]] = []
        self._open: dict[int | None, dict[str, str]] = {}  # index → the call that its next fragments belong to
        self._usage = Usage(model_calls=1)

    async def read(self, chunks: AsyncIterator[Any]) -> None:
        async for chunk in chunks:
            if usage := chunk.get("usage"):
                cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                self._usage = Usage(1, usage.get("prompt_tokens") or 0, cached, usage.get("completion_tokens") or 0)
            for choice in (chunk.get("choices") or ())[:1]:
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
                delta = choice.get("delta") or {}
                if content := delta.get("content"):
                    self._text.append(content)
                    self._on_delta(content)
                for part in delta.get("tool_calls") or ():
                    self._add(part)

    def _add(self, part: Mapping[str, Any]) -> None:
        function = part.get("function") or {}
        name, call_id = function.get("name") or "", part.get("id") or ""
        call = self._open.get(part.get("index"))
        # Gemini's endpoint sends index 0 with every parallel call: https://github.com/NousResearch/hermes-agent/issues/62937
        if call is None or (name and call["name"] and call_id and call_id != call["id"]):
            call = self._open[part.get("index")] = {"id": "", "name": "", "arguments": ""}
            self._calls.append(call)
        call["id"] = call_id or call["id"]
        call["name"] += name
        call["arguments"] += function.get("arguments") or ""

    def reply(self) -> Reply:
        calls = tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in self._calls)
        return Reply("".join(self._text), calls, self._usage, self.finish_reason or "")


def _message(message: ChatMessage) -> dict[str, Any]:
    content = message.content or (None if message.tool_calls else "")  # some servers refuse an empty text
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return fields


def _tools(tools: tuple[ToolDescription, ...]) -> dict[str, Any]:
    if not tools:
        return {}
    functions = [{"name": t.name, "description": t.description or t.name, "parameters": t.parameters} for t in tools]
    return {"tools": [{"type": "function", "function": function} for function in functions]}


def _response_format(request: ChatRequest) -> dict[str, Any]:
    if request.answer_schema is None:
        return {}
    schema = {"name": "answer", "schema": request.answer_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _may_be_the_schema(error: errors.ModelError) -> bool:
    """Return whether a server can mean by *error* that it does not support a schema for the answer."""
    kinds = (errors.ModelRefused, errors.ModelEmptyReply, errors.ModelStreamBroken)
    return (isinstance(error, kinds) and error.http_status not in NO_ACCESS) or error.http_status in (500, 501)


def _reason(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return mend(f"{error.status_code} {body.get('message') or error.code or ''}".strip()[:300])


def _overflow(error: openai.APIError) -> context_limit.Overflow | None:
    """Return what *error* says about the context's limit; None: it is another error."""
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    return context_limit.recognise(status, error.code or "", _words(error))


def _words(error: openai.APIError) -> str:
    """Return the words of an error, in a body of any shape."""
    return mend(f"{error.message} {json.dumps(error.body, ensure_ascii=False, default=str)}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return _bounded(float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        return _bounded((email.utils.parsedate_to_datetime(headers["retry-after"]) - clock.now()).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def _bounded(wait_s: float) -> float:
    """Return *wait_s* within 0 and a day: a database cannot add 'inf' seconds to its time."""
    return min(max(0.0, wait_s), 86_400.0)
