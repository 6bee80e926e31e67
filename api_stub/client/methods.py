"""A function of `calls` as a method of a client: its name, its signature, its text."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def as_method(method: F, call: Callable[..., Any]) -> F:
    """Return *method*, told as *call* is, so that `help()` and editors show what can be passed."""
    signature = inspect.signature(call)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    told = signature.replace(
        parameters=[this, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
    for name, value in {"__name__": call.__name__, "__doc__": call.__doc__, "__signature__": told}.items():
        setattr(method, name, value)
    return method
