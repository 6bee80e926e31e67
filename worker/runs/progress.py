"""The progress of a run, in a few words, for Flower: its turn, and the tools and members that are running.

It takes names from the run's events, and shows only those that the team's definition has: a model may call a tool by
any name, and what a model writes is message text.
"""

from collections.abc import Callable, Iterable, Iterator

from worker.domain import Claim, Event, Role
from worker.loop import calls, delegation
from worker.loop.definition import Definition

MAX_NAMES = 3  # of each kind; for further ones, their number
NAME_LENGTH = 40

Report = Callable[[int, str], None]
"""Receives the attempt and its progress. Called on the run's threads, so it must not wait."""


class RunProgress:
    """Follows one claim of a run, and reports each change of its progress. Not thread-safe.

    The turn is that of the reply that is awaited, or whose tools are running. Turns of members count, as for the limit.
    """

    def __init__(self, claim: Claim, definition: Definition, report: Report) -> None:
        self._attempt = claim.attempt
        self._report = report
        tools = (tool for member in _definition_and_members(definition) for tool in calls.callable_tools(member))
        self._tool_names = {tool.name for tool in tools} - {delegation.NAME}  # its member says more
        self._replies = sum(message.role is Role.ASSISTANT for message in claim.log)
        self._tools: dict[tuple[str | None, str], str] = {}
        self._members: dict[str, str] = {}

    def handle(self, event: Event) -> None:
        """Take one event of the run's stream."""
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
        self._report(self._attempt, self._words())

    def _words(self) -> str:
        words = [f"turn {max(self._replies, 1) if self._tools else self._replies + 1}"]
        if self._tools:
            words.append(f"tool {_list_names(self._tools.values())}")
        if self._members:
            words.append(f"member {_list_names(self._members.values())}")
        return " · ".join(words if len(words) > 1 else [*words, "model"])


def _definition_and_members(definition: Definition) -> Iterator[Definition]:
    yield definition
    for member in definition.members:
        yield from _definition_and_members(member)


def _list_names(names: Iterable[str]) -> str:
    different = [name[:NAME_LENGTH] for name in dict.fromkeys(names)]
    return ", ".join(different[:MAX_NAMES]) + (f" +{len(different) - MAX_NAMES}" if len(different) > MAX_NAMES else "")
