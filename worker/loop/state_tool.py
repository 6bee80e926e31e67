"""The tool by which a model changes the session's state itself, for definitions with `enable_agentic_state`."""

from typing import Any

from worker.loop.definition import Definition
from worker.loop.run_context import RunContext
from worker.loop.tools import Tool, tool

NAME = "update_session_state"


@tool(name=NAME)
def update(changes: dict[str, Any], context: RunContext) -> str:
    """Remember values for this conversation. Keys that are not named stay as they are.

    Args:
        changes: the new values, by key.
    """
    context.session_state.update(changes)
    return "Remembered."


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tool, if the definition has it."""
    return (update,) if definition.enable_agentic_state else ()
