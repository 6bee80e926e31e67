"""Any model with a Chat Completions API, through the `openai` package.

`documents` and `answer` read what the server sends. `failures` divides errors by whether a retry can help. The retries
of the package are off: the run retries, which keeps what it has written and holds no slot while it waits.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Literal

import httpx2
import openai

from worker import agno_names, errors
from worker.domain import ChatMessage, ChatRequest, Extra, Reply
from worker.models import documents, extras, forms, needs, schema_forms, server
from worker.models.answer import Answer
from worker.models.failures import body_of, to_model_error, words
from worker.models.needs import Need
from worker.models.schema_forms import SchemaForm
from worker.settings import Settings

# Names of request parameters that are no part of the body, and of the arguments for them.
OPTIONS = {"extra_headers": "headers", "extra_query": "query"}
# Those that can be given by their names.
PARAMETERS = frozenset(
    {
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "frequency_penalty", "presence_penalty"),
        *("seed", "stop", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "verbosity", "service_tier"),
        *("store", "metadata", "user", "modalities", "parallel_tool_calls", "prompt_cache_key", "safety_identifier"),
        *("extra_headers", "extra_query", "extra_body"),
    }
)
NO_ACCESS = (401, 403)
_learned: dict[needs.Server, tuple[forms.Form, ...]] = {}  # they refused messages in another form
# Statuses of a request that may be accepted in another form; 500: the chat template of the server failed.
REFUSED = (400, 404, 405, 415, 422, 500, 501)


@dataclass(frozen=True, slots=True, init=False)
class OpenAIChat:
    """A model by its name: `OpenAIChat(id="gpt-5-mini")`.

    `api_key` and `base_url` default to OPENAI_API_KEY and OPENAI_BASE_URL. `request_params` are sent with every call,
    such as `{"temperature": 0.2}`; the usual ones can be given by their names: `OpenAIChat(id="…", temperature=0.2)`.
    `structured_output` is how it is asked for an answer that fits a schema; 'auto' finds out what its server takes.
    """

    provider: ClassVar[str] = "openai"  # whose API it uses, as named in traces

    id: str
    api_key: str | None = field(repr=False)
    base_url: str | None
    request_params: Mapping[str, Any]
    structured_output: str

    def __init__(
        self,
        id: str,
        api_key: str | None = None,
        base_url: str | None = None,
        request_params: Mapping[str, Any] | None = None,
        structured_output: Literal["auto", "json_schema", "json_object", "prompt"] = "auto",
        **others: Any,
    ) -> None:
        agno_names.check("model", others, known=PARAMETERS)
        if structured_output not in ("auto", *SchemaForm):
            known = ", ".join(map(repr, ("auto", *map(str, SchemaForm))))
            raise errors.ArgumentInvalid(problem=f"structured_output is {structured_output!r}; expected one of {known}")
        named = {name: value for name, value in others.items() if name in PARAMETERS and value is not None}
        values = {
            "id": id,
            "api_key": api_key,
            "base_url": base_url,
            "request_params": {**(request_params or {}), **named},
            "structured_output": structured_output,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    async def reply(self, request: ChatRequest, on_delta: Callable[[str], None]) -> Reply:
        """Answer *request*; see `ChatModel.reply`.

        Raises:
            ModelRateLimited, ModelUnavailable, ModelSilent, ModelStreamBroken, ModelNoAnswer: a retry can help.
            ModelAnswerInvalid, ModelEmptyReply: only asking again at once can help.
            ModelRefused, ModelAnswerTooLarge: a retry cannot help.
        """
        if request.answer_schema is None:
            return await self._ask(request, on_delta)
        refused: list[SchemaForm] = []
        failure: errors.ModelError | None = None
        for form in schema_forms.forms(request, self.structured_output, self._server):
            try:
                reply = await self._ask(schema_forms.asked(request, form), on_delta, form=form)
            except errors.ModelError as error:
                if not _may_be_the_schema(error) or form is SchemaForm.PROMPT:
                    raise
                failure = error
                if isinstance(error, errors.ModelRefused) or error.http_status == 501:
                    refused.append(form)  # a failed answer can have another cause, such as an outage that is over now
                continue
            for earlier in refused:  # if all forms were refused, the schema was not the cause
                schema_forms.refused(self._server, earlier)
            return reply
        assert failure is not None
        raise failure

    @property
    def _server(self) -> needs.Server:
        return self.base_url, self.id

    async def _ask(
        self, request: ChatRequest, on_delta: Callable[[str], None], *, form: SchemaForm | None = None
    ) -> Reply:
        answer = Answer(self.id, on_delta)
        try:
            async with aclosing(await self._start_stream(request, form)) as response:
                try:
                    await documents.read(response, answer.add, silence_s=request.silence_s)
                except (openai.APIConnectionError, documents.NotJson, documents.TooLarge):
                    if not answer.is_whole:
                        raise
            return self._storable(answer.reply(address=self._address()))
        except errors.ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - `to_model_error` raises what it does not know
            silence_s, secrets = request.silence_s, self._secrets()
            raise to_model_error(
                error, model=self.id, silence_s=silence_s, secrets=secrets, has_begun=answer.has_begun
            ) from None

    async def _start_stream(self, request: ChatRequest, schema_form: SchemaForm | None) -> httpx2.Response:
        """Start the stream. If the server refuses a part or a form of the request, ask without it, or in another."""
        used = known = _learned.get(self._server) or forms.of_model(self.id, self.base_url)
        met = needs.of(self._server)
        while True:
            own = None if Need.NO_EXTRA in met else Extra(self.id, self._address())
            body = self._body(request, used, own=own, with_usage=Need.NO_STREAM_OPTIONS not in met, form=schema_form)
            try:
                response = await self._post(body, silence_s=request.silence_s)
            except openai.APIStatusError as error:
                if error.status_code not in REFUSED:
                    raise
                refusal = words(body_of(error))
                if need := needs.found(request, met, refusal):
                    met |= {need}
                elif form := forms.of_refusal(refusal, request.messages, used):
                    used = (*used, form)
                else:
                    raise
            else:
                needs.remember(self._server, met)
                if used != known:
                    _learned[self._server] = used
                return response

    def _body(
        self,
        request: ChatRequest,
        used: Iterable[forms.Form],
        *,
        own: Extra | None = None,
        with_usage: bool = True,
        form: SchemaForm | None = None,
    ) -> dict[str, Any]:
        """Return what is sent, in the forms *used*. *own*: the extras of this model are sent too."""
        messages: Sequence[ChatMessage] = request.messages
        for used_form in used:
            messages = used_form.apply(messages)
        body = {
            "stream_options": {"include_usage": True},
            **self.request_params,
            **(self.request_params.get("extra_body") or {}),
            **schema_forms.response_format(request, form),
            "model": self.id,
            "messages": [_message(m, own) for m in messages],
            "stream": True,
            **_tools(request),
        }
        body.pop("extra_body", None)
        if body["stream_options"] is None or not with_usage:
            del body["stream_options"]
        return body

    async def _post(self, body: dict[str, Any], *, silence_s: float) -> httpx2.Response:
        options: dict[str, Any] = {name: body.pop(param, None) or {} for param, name in OPTIONS.items()}
        return await self._connected.post(body, **options, silence_s=silence_s)

    @property
    def _connected(self) -> server.ModelServer:
        return server.of(self.api_key, self.base_url)

    def _address(self) -> str:
        return _hash(self._connected.address)

    def _secrets(self) -> list[str]:
        """Return what no error may repeat: the key, and the values of own headers and of the query."""
        values = [str(v) for name in OPTIONS for v in (self.request_params.get(name) or {}).values()]
        try:
            return [self._connected.key, *values]
        except openai.OpenAIError:  # there is no key
            return []

    def _storable(self, reply: Reply) -> Reply:
        """Return *reply* with what its provider wants back, as far as it can be stored."""
        if reply.extra is None:
            return reply
        fields = {"message": reply.extra.fields, "calls": [call.extra for call in reply.tool_calls]}
        kept = extras.storable(fields, model=self.id)
        if kept is None:
            calls = tuple(replace(call, extra=None) for call in reply.tool_calls)
            return replace(reply, tool_calls=calls, extra=None)
        calls = tuple(replace(call, extra=own) for call, own in zip(reply.tool_calls, kept["calls"], strict=True))
        return replace(reply, tool_calls=calls, extra=replace(reply.extra, fields=kept["message"]))


def default_model(settings: Settings) -> OpenAIChat:
    """Return the model that TEAM_SESSIONS_MODEL names, for teams that define none."""
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    return OpenAIChat(settings.model, api_key=key, base_url=settings.openai_base_url)


@cache
def _hash(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _message(message: ChatMessage, own: Extra | None) -> dict[str, Any]:
    """Return a message as it is sent. *own*: the extras of this model are sent; None: none is."""
    content = message.content or (None if message.tool_calls else "")  # some servers refuse an empty text
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    calls: list[dict[str, Any]] = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in message.tool_calls
    ]
    extra = message.extra
    if own is not None and extra is not None and (extra.model, extra.address) == (own.model, own.address):
        fields = {**extra.fields, **fields}
        for call, sent in zip(message.tool_calls, calls, strict=True):
            more = call.extra or {}
            sent.update({**more, **sent, "function": {**more.get("function", {}), **sent["function"]}})
    if calls:
        fields["tool_calls"] = calls
    return fields


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    functions = [
        {"name": t.name, "description": t.description or t.name, "parameters": t.parameters}
        | ({"strict": True} if t.strict else {})
        for t in request.tools
    ]
    tools = {"tools": [{"type": "function", "function": function} for function in functions]}
    choice = request.tool_choice
    if choice is None:
        return tools
    named = choice not in ("auto", "required", "none")
    return {**tools, "tool_choice": {"type": "function", "function": {"name": choice}} if named else choice}


def _may_be_the_schema(error: errors.ModelError) -> bool:
    """Return whether a server can mean by *error* that it does not support a schema for the answer."""
    kinds = (errors.ModelRefused, errors.ModelEmptyReply, errors.ModelAnswerInvalid, errors.ModelStreamBroken)
    return (isinstance(error, kinds) and error.http_status not in NO_ACCESS) or error.http_status in (500, 501)
