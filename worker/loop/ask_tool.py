"""The tool by which a model asks the user a question, and waits for the answer: `ask_user`."""

from worker.loop.definition import Definition
from worker.loop.tools import Tool, tool


@tool(requires_user_input=True, user_input_fields=["answer"])
def ask_user(question: str, answer: str, options: list[str] | None = None) -> str:
    """Ask the user a question, and wait for the answer. Use it when you cannot go on without it.

    Args:
        question: what you need to know.
        options: answers to choose from, if there are some.
    """
    del question, options  # they are for the user
    return answer


def tools(definition: Definition) -> tuple[Tool, ...]:
    """Return the tool, if the definition wants it."""
    return (ask_user,) if definition.ask_user else ()
