"""The options of a definition that add text to its contexts. `prompt_text` fills them in for a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.domain import ChatMessage

Text = str | Callable[..., Any]
"""A text, or a function that returns it for a run."""

MARKDOWN = "Write your answer in Markdown."
TIME_FORMAT = "%A, %Y-%m-%d %H:%M:%S %Z"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the system message has besides the instructions, and what stands around the history.

    `system_message` replaces all of the system message. `additional_input` are examples before the history. `time` and
    `data` are added to the last message; they are filled in for a run.
    """

    description: str = ""
    expected_output: str = ""
    additional_context: str = ""
    introduction: str = ""
    name: bool = False  # the system message has its name; with a role it always does
    markdown: bool = False
    system_message: Text | None = None
    additional_input: tuple[ChatMessage, ...] = ()
    add_datetime_to_context: bool = False
    timezone_identifier: str = "UTC"
    datetime_format: str = TIME_FORMAT
    resolve_in_context: bool = True
    add_dependencies_to_context: bool = False
    member_tools: bool = False  # the members' tools are named beside their roles
    time: str = ""
    data: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The lines of the system message behind the instructions."""
        lines = [
            self.expected_output and f"The answer is expected to be: {self.expected_output}",
            self.additional_context,
            self.introduction and f"You have introduced yourself to the user with: {self.introduction}",
            MARKDOWN if self.markdown else "",
        ]
        return [line for line in lines if line]


NO_PROMPT = Prompt()
