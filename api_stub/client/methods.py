"""Makes a method of a client from a function of `calls`: with its name, its signature and its docstring."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def as_method(method: F, call: Callable[..., Any]) -> F:
    """Return *method* with the documentation of *call*, for `help()` and editors."""
    signature = inspect.signature(call)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    own = signature.replace(
        parameters=[this, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    for name, value in {"__name__": call.__name__, "__doc__": call.__doc__, "__signature__": own}.items():
        setattr(method, name, value)
    return method
