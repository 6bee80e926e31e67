"""Toolkits: ours, and those that were made for Agno, which are objects with `functions` that have an entry point.

Nothing of Agno is imported. The function behind each is described by its own signature, like every other tool.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from worker.errors import ToolNotDescribable
from worker.loop.asks import ASKING
from worker.loop.tools import Tool, as_tool, tool

FOREIGN = {"agent", "team", "images", "videos", "audios", "files"}  # parameters that Agno fills in; here they are None


class Toolkit:
    """Functions that belong together: subclass it, and give the bound methods as *tools*."""

    def __init__(self, name: str = "toolkit", *, tools: Sequence[Tool | Callable[..., Any]] = ()) -> None:
        self.name = name
        self.functions: dict[str, Tool] = {}
        for function in tools:
            self.register(function)

    def register(self, function: Tool | Callable[..., Any]) -> None:
        """Add one function. Raises ToolNotDescribable."""
        made = as_tool(function)
        self.functions[made.name] = made


def flattened(given: Any) -> list[Tool | Callable[..., Any]]:
    """Return the tools that *given* stands for: one, or those of a toolkit.

    Raises:
        ToolNotDescribable: it is neither a function nor a toolkit.
    """
    functions = getattr(given, "functions", None)
    if isinstance(functions, Mapping) and not isinstance(given, Tool):
        both = {**functions, **(getattr(given, "async_functions", None) or {})}
        return [_tool(function) for function in both.values()]
    if hasattr(given, "entrypoint"):
        return [_tool(given)]
    if not callable(given) or isinstance(given, type):
        name = getattr(given, "__name__", type(given).__name__)
        hint = f"; use an instance: {name}()" if isinstance(given, type) else ""
        raise ToolNotDescribable(function=name, problem=f"it is not a callable object{hint}")
    return [given]


def _tool(function: Any) -> Tool:
    """Return a function of a toolkit as a tool."""
    if isinstance(function, Tool):
        return function
    entrypoint, name = getattr(function, "entrypoint", function), getattr(function, "name", None)
    if not callable(entrypoint):
        raise ToolNotDescribable(function=name or "tool", problem="it has no function")
    absent = dict.fromkeys(FOREIGN & inspect.signature(entrypoint).parameters.keys())
    if absent:
        entrypoint = partial(entrypoint, **absent)
    asking: Any = {option: value for option in ASKING if (value := getattr(function, option, None))}
    made = tool(name=name, description=getattr(function, "description", None), **asking)(entrypoint)
    stops = bool(getattr(function, "stop_after_tool_call", False))
    return replace(made, stop_after_call=stops, strict=bool(getattr(function, "strict", False)))
