"""Functions that a model may call.

`@tool` makes a tool from a function: its JSON schema comes from the signature, its description from the docstring. Each
call runs in its own thread: slow tools never wait for a small pool, and a stopped run does not wait for them. The model
always gets a result: an exception becomes text that it can react to.
"""

import asyncio
import inspect
import json
import re
import warnings
from collections.abc import Callable, Coroutine
from concurrent import futures
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Unpack, overload

import docstring_parser
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import to_jsonable_python

from worker import agno_names
from worker.domain import NO_CHANGE, StateChange, ToolDescription, check_json, schemas
from worker.domain.state import difference
from worker.errors import InvalidJson, InvalidText, ToolNotDescribable
from worker.loop.asks import ASKING, Asking, Asks, asks_of, without
from worker.loop.fit import as_object
from worker.loop.run_context import RunContext, hints_of, is_context, underlying
from worker.loop.user_loop import finished, joined
from worker.observe import logs, metrics, tracing

log = logs.get(__name__)

OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: it was started, the process that ran it was lost, and it is not safe to "
    "repeat. Find out whether it took effect before you go on."
)
CUT_OFF = (
    "Error: this call was not made. Your reply reached its limit of output tokens, and the arguments of the call were "
    "cut off. Make the call again with shorter arguments."
)
OPTIONS = ("name", "description", "repeatable", "stop_after_tool_call", "strict")
LISTED = 100  # errors of arguments; a list of a million would fill the memory
Wait = Callable[[Coroutine[Any, Any, Any]], Any]
Around = Callable[[Callable[..., Any]], Callable[..., Any]]
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # what providers accept as the name of a function
NO_RESULT = "No result: {because}. Whether it took effect is not known."


@dataclass(frozen=True, slots=True)
class Result:
    """What a call of a tool came to: the text for the model, and whether the tool failed."""

    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    `repeatable` False: it is not called again once its start was recorded. `stop_after_call`: its result is the answer.
    `strict`: its provider is asked to keep to the schema. `asks`: what a call waits for before it is made.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any] = field(repr=False)
    arguments: type[BaseModel] = field(repr=False)
    context_parameter: str | None
    repeatable: bool
    stop_after_call: bool = False
    strict: bool = False
    asks: Asks | None = None

    @property
    def describe(self) -> ToolDescription:
        """The tool as a model sees it: without the arguments that the user gives."""
        return ToolDescription(self.name, self.description, self.given, strict=self.strict)

    @property
    def given(self) -> dict[str, Any]:
        """The JSON schema of the arguments that the model gives."""
        return without(self.parameters, self.asks.fields) if self.asks and self.asks.fields else self.parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def call(
        self,
        arguments: str,
        context: RunContext,
        *,
        wait: Wait = asyncio.run,
        around: Around = lambda function: function,
    ) -> Result:
        """Call the function with a model's arguments, and return its result. Never raises.

        *wait* runs a coroutine to its end. *around* returns what is called instead of the function.
        """
        try:
            return self._call(arguments, context, wait, around)
        except futures.CancelledError as error:  # the run was stopped: no fault of the tool
            tracing.fail_current(error)
            return Result(f"Error: {type(error).__name__}: {error}", failed=True)
        # Not only Exception: a SystemExit or CancelledError would end the thread, and the run would wait without end.
        except BaseException as error:  # noqa: BLE001 - the model gets every error of a user's function
            tracing.fail_current(error)
            metrics.TOOL_FAILURES.labels(self.name).inc()
            log.warning("tool failed", tool=self.name, error=error)
            return Result(f"Error: {type(error).__name__}: {error}", failed=True)

    def problem(self, arguments: str) -> str | None:
        """Return why a model's arguments cannot be called with, as a text for the model; None: they can.

        Of a tool that asks for arguments, only those are checked that the model gives.
        """
        fields = self.asks.fields if self.asks is not None else ()
        if not fields:
            parsed = self.parse(arguments)
            return parsed if isinstance(parsed, str) else None
        given = as_object(arguments)
        listed = schemas.problems(self.given, json.loads(given))
        if given != arguments or listed:
            return f"Error: the arguments of {self.name!r} do not fit its schema: {'; '.join(listed) or 'no object'}."
        return None

    def parse(self, arguments: str) -> dict[str, Any] | str:
        """Return a model's arguments by name, validated; or an error text for the model."""
        try:
            parsed = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            return f"Error: the arguments of {self.name!r} are not JSON ({error}). Send a JSON object."
        if not isinstance(parsed, dict):
            return f"Error: the arguments of {self.name!r} are a {type(parsed).__name__}. Send a JSON object."
        try:
            values = self.arguments.model_validate(parsed)
        except ValidationError as error:
            problems = f"{error.error_count():,} errors"
            if error.error_count() <= LISTED:
                problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return f"Error: the arguments of {self.name!r} do not fit its schema: {problems}."
        return {name: getattr(values, name) for name in type(values).model_fields}

    def _call(self, arguments: str, context: RunContext, wait: Wait, around: Around) -> Result:
        kwargs = self.parse(arguments)
        if isinstance(kwargs, str):
            return Result(kwargs, failed=True)
        if self.context_parameter is not None:
            kwargs[self.context_parameter] = context
        result = around(self.function)(**kwargs)
        if inspect.isawaitable(result) or inspect.isasyncgen(result):
            result = wait(finished(result))
        return Result(_as_text(joined(list(result)) if inspect.isgenerator(result) else result))


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = True,
    stop_after_tool_call: bool = False,
    strict: bool = False,
    **others: Unpack[Asking],
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = True,
    stop_after_tool_call: bool = False,
    strict: bool = False,
    **others: Any,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function callable by a model.

    Its parameters need types that have a JSON schema; one of type `RunContext` is filled in and hidden from the model.
    The docstring describes the tool and, in any of the common styles, its parameters. It may be `async`.

    Args:
        function: the function, when used without parentheses.
        name: what the model calls it by; the function's name by default. Providers accept ASCII letters, digits, `_`
            and `-`, at most 64, not beginning with a digit or `-`.
        description: what the model reads; the docstring by default.
        repeatable: False for effects that must not happen twice. Such a call is not made again after a crash once its
            start was recorded, and the result says that the outcome is unknown.
        stop_after_tool_call: its result is the answer of the run. After an error the model goes on.
        strict: the provider keeps to the schema; it refuses schemas with parameters that have a default.
        others: what a call waits for before it is made: see `Asking`.

    Raises:
        ToolNotDescribable: no JSON schema can be made of the signature, no provider accepts the name, or the options
            exclude each other.
        ArgumentInvalid: one of *others*, the options that Agno's decorator has, does not exist here.
    """
    asking = {option: others[option] for option in ASKING if option in others}
    agno_names.check("tool", others, known=(*OPTIONS, *ASKING))

    def make(target: Callable[..., Any]) -> Tool:
        made = _describe(target, name=name, description=description, repeatable=repeatable)
        asks = asks_of(made.name, made.parameters, asking)
        return replace(made, stop_after_call=stop_after_tool_call, strict=strict, asks=asks)

    return make if function is None else make(function)


_own = [p for p in inspect.signature(tool).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
_more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ASKING]
tool.__signature__ = inspect.Signature([*_own, *_more])  # type: ignore[attr-defined]  # for `help`, as below
tool.ACCEPTED = agno_names.accepted("tool")  # type: ignore[attr-defined]  # an attribute of a function


def as_tool(function: Tool | Callable[..., Any]) -> Tool:
    """Return *function* as a tool; one that already is a tool stays as it is."""
    return function if isinstance(function, Tool) else tool(function)


def _describe(function: Callable[..., Any], *, name: str | None, description: str | None, repeatable: bool) -> Tool:
    if not callable(function):
        raise ToolNotDescribable(function=type(function).__name__, problem="it is not a callable object")
    label = name or _name_of(function)
    if not NAME.fullmatch(label):
        problem = "providers accept names of 1 to 64 ASCII letters, digits, '_' and '-', such as @tool(name='search')"
        raise ToolNotDescribable(function=label, problem=problem)
    documentation = docstring_parser.parse(inspect.getdoc(_documented(function)) or "")
    described = {p.arg_name: p.description for p in documentation.params}
    try:
        hints = hints_of(function)
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise ToolNotDescribable(function=label, problem=str(error)) from error
    bound = function.keywords if isinstance(function, partial) else {}

    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            problem = f"parameter {parameter.name!r} is {parameter.kind.description}; every parameter needs a name"
            raise ToolNotDescribable(function=label, problem=problem)
        if parameter.name in bound:  # the program's own value, which a model must neither see nor change
            continue
        if is_context(hints.get(parameter.name)):
            context_parameter = parameter.name
            continue
        taken = parameter.name.startswith("model_") and hasattr(BaseModel, parameter.name)
        if taken or parameter.name.startswith("_"):
            raise ToolNotDescribable(function=label, problem=f"parameter {parameter.name!r} needs another name")
        if parameter.name not in hints:
            raise ToolNotDescribable(function=label, problem=f"parameter {parameter.name!r} has no type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    try:
        with warnings.catch_warnings():
            # Parameters may be called `json`, `copy` or `schema`: nothing uses these methods of the model.
            warnings.filterwarnings("ignore", 'Field name ".*" shadows', UserWarning)
            arguments = create_model(label, __config__=ConfigDict(extra="forbid"), **fields)
        schema = arguments.model_json_schema()
    except (PydanticUserError, NameError) as error:
        raise ToolNotDescribable(function=label, problem=str(error).splitlines()[0]) from error
    for parameter_name, meaning in described.items():
        if meaning and parameter_name in schema.get("properties", {}):
            schema["properties"][parameter_name].setdefault("description", meaning)
    text = "\n".join(filter(None, [documentation.short_description, documentation.long_description]))
    return Tool(label, description or text, schema, function, arguments, context_parameter, repeatable)


def _name_of(function: Callable[..., Any]) -> str:
    target = underlying(function)
    named = target if target.__name__ != "__call__" else type(function)
    return named.__name__


def _documented(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what has the docstring: of a callable object its `__call__` or, without a docstring there, its class."""
    target = underlying(function)
    return target if target.__doc__ or target.__name__ != "__call__" else type(function)


def state_change(result: Result, before: dict[str, Any], after: dict[str, Any]) -> tuple[Result, StateChange]:
    """Return a tool's result and its change of the session's state; an error result if that cannot be stored."""
    change = difference(before, after)
    try:
        json.dumps(change.values, allow_nan=False)
        check_json(change.values, field="session_state")
    except (TypeError, ValueError, RecursionError, InvalidText, InvalidJson) as error:
        text = f"Error: session_state was not changed, it cannot be stored as JSON ({error}). {result.text}"
        return Result(text, failed=True), NO_CHANGE
    return result, change


def _as_text(result: object) -> str:
    """Return a result as the model reads it: text as it is, everything else as JSON.

    Raises:
        TypeError: it is bytes that are no text.
    """
    if isinstance(result, (bytes, bytearray)):
        try:
            result = result.decode()
        except UnicodeDecodeError:
            raise TypeError(f"the tool returned {len(result):,} bytes that are no text in UTF-8; return text") from None
    if isinstance(result, str):
        return result
    try:
        return json.dumps(to_jsonable_python(result, fallback=str, inf_nan_mode="constants"), ensure_ascii=False)
    except (TypeError, ValueError):  # such as a circular reference: the call itself did not fail
        return str(result)
