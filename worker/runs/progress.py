"""What a run is at, in a few words, for those who watch the workers: its turn, and the tools and members at work.

It hears the run's events and takes names from them, of which it says only those that the team's definition has: a model
may ask for a tool of any name, and whatever a model says is message text.
"""

from collections.abc import Callable, Iterable, Iterator

from worker.domain.event import Event
from worker.domain.message import Role
from worker.domain.run import Claim
from worker.loop import calls, delegation
from worker.loop.definition import Definition

FEW = 3  # names of a kind; of more, their number
NAME_LENGTH = 40

Say = Callable[[int, str], None]
"""Is told the attempt, and the words. Called on the run's threads: it must not wait."""


class RunProgress:
    """Follows one claim of a run, and says what it is at as soon as that changes.

    A turn is that of the reply which is being waited for, or whose tools are at work. Those of members count too, as
    for the limit. To be called by one thread at a time.
    """

    def __init__(self, claim: Claim, definition: Definition, say: Say) -> None:
        self._attempt = claim.attempt
        self._say = say
        self._known = {tool.name for each in _everybody(definition) for tool in calls.callable_tools(each)}
        self._known -= {delegation.NAME}  # its member says more
        self._replies = sum(message.role is Role.ASSISTANT for message in claim.log)
        self._tools: dict[tuple[str | None, str], str] = {}
        self._members: dict[str, str] = {}

    def hear(self, event: Event) -> None:
        """Take one event of the run's stream."""
        data = event.data
        match event.type:
            case "run.started":
                pass
            case "message.completed":
                self._replies += data["role"] == Role.ASSISTANT
                return  # what it leads to is told next
            case "tool_call.started" if data["name"] in self._known:
                self._tools[data["delegation"], data["tool_call_id"]] = data["name"]
            case "tool_call.completed":
                self._tools.pop((data["delegation"], data["tool_call_id"]), None)
            case "delegation.started":
                self._members[data["delegation"]] = data["member"]
            case "delegation.completed":
                self._members.pop(data["delegation"], None)
            case _:
                return
        self._say(self._attempt, self._words())

    def _words(self) -> str:
        words = [f"turn {max(self._replies, 1) if self._tools else self._replies + 1}"]
        if self._tools:
            words.append(f"tool {_few(self._tools.values())}")
        if self._members:
            words.append(f"member {_few(self._members.values())}")
        return " · ".join(words if len(words) > 1 else [*words, "model"])


def _everybody(definition: Definition) -> Iterator[Definition]:
    yield definition
    for member in definition.members:
        yield from _everybody(member)


def _few(names: Iterable[str]) -> str:
    different = [name[:NAME_LENGTH] for name in dict.fromkeys(names)]
    return ", ".join(different[:FEW]) + (f" +{len(different) - FEW}" if len(different) > FEW else "")
