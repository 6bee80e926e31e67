"""Functions that a model may call.

`@tool` makes one from a function: its JSON schema comes from the signature, its description from the docstring. Each
call runs in a thread of its own, so that slow tools never wait for a small pool, and a run that is told to stop leaves
them behind. Whatever a call does, the model sees a result: an exception becomes text that it can react to.
"""

import asyncio
import inspect
import json
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints, overload

import docstring_parser
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from worker.domain.chat import ToolDescription
from worker.domain.state import NO_CHANGE, StateChange, difference
from worker.domain.text import check_json
from worker.errors import InvalidJson, InvalidText, ToolNotDescribable
from worker.observe import tracing

OUTCOME_UNKNOWN = (
    "The outcome of this call is unknown: it was started, the process that ran it was lost, and it is not safe to "
    "repeat. Find out whether it took effect before you go on."
)
NO_RESULT = "No result: {because}. Whether it took effect is not known."


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a tool learns about its run, if it has a parameter of this type.

    `idempotency_key` is the same whenever this very call is repeated after a crash; hand it to services that can tell
    a repeated request by it. `cancelled` is set when the run no longer waits for the tool. `session_state` is a copy of
    the session's state: what the tool changes in it, by top-level keys, is stored together with its result.
    """

    run_id: str
    session_id: str
    user_id: str
    idempotency_key: str
    cancelled: threading.Event
    session_state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function as a model may call it. `repeatable` False: not again once its start was recorded."""

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any] = field(repr=False)
    arguments: type[BaseModel] = field(repr=False)
    context_parameter: str | None
    repeatable: bool

    @property
    def describe(self) -> ToolDescription:
        """The tool as a model sees it."""
        return ToolDescription(self.name, self.description, self.parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def call(self, arguments: str, context: RunContext) -> str:
        """Call the function with a model's arguments, and return its result as text. Never raises."""
        try:
            return self._called(arguments, context)
        # Not only Exception: a SystemExit or CancelledError would end the tool's thread, and the run wait on for ever.
        except BaseException as error:  # noqa: BLE001 - whatever a user's function raises, the model shall see it
            tracing.fail_current(error)
            return f"Error: {type(error).__name__}: {error}"

    def parse(self, arguments: str) -> dict[str, Any] | str:
        """Return a model's arguments by name, validated; or a text that tells the model what is wrong with them."""
        try:
            parsed = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            return f"Error: the arguments of {self.name!r} are not JSON ({error}). Send a JSON object."
        if not isinstance(parsed, dict):
            return f"Error: the arguments of {self.name!r} are a {type(parsed).__name__}. Send a JSON object."
        try:
            values = self.arguments.model_validate(parsed)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return f"Error: the arguments of {self.name!r} do not fit its schema: {problems}."
        return {name: getattr(values, name) for name in type(values).model_fields}

    def _called(self, arguments: str, context: RunContext) -> str:
        kwargs = self.parse(arguments)
        if isinstance(kwargs, str):
            return kwargs
        if self.context_parameter is not None:
            kwargs[self.context_parameter] = context
        result = self.function(**kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        return _as_text(result)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, repeatable: bool = True
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = True,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function callable by a model.

    Its parameters need types that have a JSON schema; one of type `RunContext` is filled in and hidden from the model.
    The docstring describes the tool and, in any of the common styles, its parameters. It may be `async`.

    Args:
        function: the function, when used without parentheses.
        name: what the model calls it by; the function's name by default.
        description: what the model reads; the docstring by default.
        repeatable: False for effects that must not happen twice. Such a call is not made again after a crash once its
            start was recorded, and the model is told that the outcome is unknown.

    Raises:
        ToolNotDescribable: no JSON schema can be made of the signature.
    """

    def make(target: Callable[..., Any]) -> Tool:
        return _describe(target, name=name, description=description, repeatable=repeatable)

    return make if function is None else make(function)


def as_tool(function: Tool | Callable[..., Any]) -> Tool:
    """Return *function* as a tool; one that already is a tool stays as it is."""
    return function if isinstance(function, Tool) else tool(function)


def _describe(function: Callable[..., Any], *, name: str | None, description: str | None, repeatable: bool) -> Tool:
    label: str = name or getattr(function, "__name__", "") or type(function).__name__
    documentation = docstring_parser.parse(inspect.getdoc(function) or "")
    described = {p.arg_name: p.description for p in documentation.params}
    try:
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError) as error:
        raise ToolNotDescribable(function=label, problem=str(error)) from error

    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            problem = f"parameter {parameter.name!r} is {parameter.kind.description}; every parameter needs a name"
            raise ToolNotDescribable(function=label, problem=problem)
        if hints.get(parameter.name) is RunContext:
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
    for parameter_name, text in described.items():
        if text and parameter_name in schema.get("properties", {}):
            schema["properties"][parameter_name].setdefault("description", text)
    said = "\n".join(filter(None, [documentation.short_description, documentation.long_description]))
    return Tool(label, description or said, schema, function, arguments, context_parameter, repeatable)


def state_change(text: str, before: dict[str, Any], after: dict[str, Any]) -> tuple[str, StateChange]:
    """Return a tool's result and what it changed in the session's state; an error if that cannot be stored."""
    change = difference(before, after)
    try:
        json.dumps(change.values, allow_nan=False)
        check_json(change.values, field="session_state")
    except (TypeError, ValueError, RecursionError, InvalidText, InvalidJson) as error:
        return f"Error: session_state was not changed, it cannot be stored as JSON ({error}). {text}", NO_CHANGE
    return text, change


def _as_text(result: object) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, BaseModel):
        return result.model_dump_json()
    try:
        return json.dumps(result, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):  # keys that JSON does not know, a circle: the call was made, and did not fail
        return str(result)


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
