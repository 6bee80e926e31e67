"""Describe the progress of a run for Flower: its turn, and the tools and members that are running.

Only names from the team's definition are shown. A model may call a tool by any name, and text from a model must not
appear in Flower.
"""

from collections.abc import Callable, Iterable, Iterator

from worker.domain import Claim, Event, Role
from worker.loop import calls, delegate
from worker.loop.definition import Definition

MAX_NAMES = 3  # tools, and as many members; the rest are counted: "+2"
NAME_LENGTH = 40

Report = Callable[[int, str], None]
"""Receives the attempt and its progress. Called on the run's threads, so it must not wait."""


class RunProgress:
    """Follows one claim of a run, and reports each change of its progress. Not thread-safe.

    A turn begins with a call of the model and ends when the tools of its reply have run. Turns of members count too, as
    they do for the limit of turns.
    """

    def __init__(self, claim: Claim, definition: Definition, report: Report) -> None:
        self._attempt = claim.attempt
        self._report = report
        tools = (tool for member in _definition_and_members(definition) for tool in calls.callable_tools(member))
        self._tool_names = {tool.name for tool in tools} - {delegate.NAME}  # the member's name is shown instead
        self._replies = sum(message.role is Role.ASSISTANT for message in claim.log)
        self._tools: dict[tuple[str | None, str], str] = {}
        self._members: dict[str, str] = {}

    def handle(self, event: Event) -> None:
        """Update the progress with one event of the run's stream."""
        data = event.data
        match event.type:
            case "run.started":
                pass
            case "message.completed":
                self._replies += data["role"] == Role.ASSISTANT
                return  # its tool calls follow as events
            case "tool_call.started" if data["name"] in self._tool_names:
                self._tools[data["delegation"], data["tool_call_id"]] = data["name"]
            case "tool_call.completed":
                self._tools.pop((data["delegation"], data["tool_call_id"]), None)
            case "delegation.started":
                self._members[data["delegation"]] = data["member"]
            case "delegation.completed":
                self._members.pop(data["delegation"], None)
            case _:
                return
        self._report(self._attempt, self._format())

    def _format(self) -> str:
        parts = [f"turn {max(self._replies, 1) if self._tools else self._replies + 1}"]
        if self._tools:
            parts.append(f"tool {_list_names(self._tools.values())}")
        if self._members:
            parts.append(f"member {_list_names(self._members.values())}")
        return " · ".join(parts if len(parts) > 1 else [*parts, "model"])


def _definition_and_members(definition: Definition) -> Iterator[Definition]:
    yield definition
    for member in definition.members:
        yield from _definition_and_members(member)


def _list_names(names: Iterable[str]) -> str:
    unique = [name[:NAME_LENGTH] for name in dict.fromkeys(names)]
    return ", ".join(unique[:MAX_NAMES]) + (f" +{len(unique) - MAX_NAMES}" if len(unique) > MAX_NAMES else "")
