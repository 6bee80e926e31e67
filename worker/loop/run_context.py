"""The context that functions of users get, and how they ask for it.

A function names what it wants by its parameters. A parameter of the type `RunContext` gets the context; hooks and
instructions can name other things as well, such as `session_state`.
"""

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_type_hints

from worker.domain import bounds


def _ignore(_name: str, _data: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class RunContext:
    """The run that a function is called in. It is passed to a function that has a parameter of this type.

    `idempotency_key` stays the same if this call is repeated after a crash; pass it to services that recognise repeated
    requests by a key. `cancelled` is set when the run no longer waits for the function. `session_state` is a copy of
    the session's state: the top-level keys that a tool changes are stored together with its result. `dependencies` and
    `metadata` are those that the caller gave the run.
    """

    run_id: str
    session_id: str
    user_id: str
    idempotency_key: str
    cancelled: threading.Event
    session_state: dict[str, Any] = field(default_factory=dict)
    dependencies: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notify: Callable[[str, dict[str, Any]], None] = field(default=_ignore, repr=False)

    def tell(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Send an event `tool_call.progress` to those who watch the run: its name, and a JSON object.

        It never waits, and is not stored. Only a tool can send one.

        Raises:
            InvalidType, InvalidText, InvalidJson, ValueTooLarge: nothing is sent.
        """
        self.notify(bounds.check_name(name, field="name"), bounds.check_metadata(data or {}, field="data"))


FOREIGN = {"agent", "team", "session"}  # what hooks of Agno are given, and no function is here


def is_context(hint: object) -> bool:
    """Return whether a parameter's type is `RunContext`, ours or that of a toolkit made for another product."""
    return hint is RunContext or (isinstance(hint, type) and hint.__name__ == "RunContext")


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what has the name, the docstring and the types: inside a `partial`, or behind a callable object."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function for logs, errors and hashes."""
    return getattr(underlying(function), "__qualname__", type(function).__name__).removesuffix(".__call__")


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of a function's parameters. Raises TypeError or NameError if they cannot be read."""
    return get_type_hints(underlying(function), include_extras=True)


def select(function: Callable[..., Any], available: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for *function*: what its parameters name of *available*.

    The first parameter gets the first value if it names nothing, so `lambda text: …` is enough.

    Raises:
        TypeError: a parameter without a default names nothing.
    """
    arguments: dict[str, Any] = {}
    try:
        hints = hints_of(function)
    except (TypeError, NameError):
        hints = {}
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            return {**available, **arguments}
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.name in available:
            arguments[parameter.name] = available[parameter.name]
        elif is_context(hints.get(parameter.name)):
            arguments[parameter.name] = available["run_context"]
        elif parameter.default is not parameter.empty:
            continue
        elif number == 0 and parameter.name not in FOREIGN:
            arguments[parameter.name] = next(iter(available.values()))
        else:
            raise TypeError(f"it has a parameter {parameter.name!r}, and is called with {', '.join(available)}")
    return arguments


def problem_of_call(function: Callable[..., Any], names: Sequence[str]) -> str | None:
    """Return why *function* cannot be called with what has these *names*; None: it can."""
    try:
        select(function, {**dict.fromkeys(names), "run_context": None})
    except (TypeError, ValueError) as error:
        return str(error)
    return None
