"""Results for tool calls that will get none: no call is left open when a run or a member's work has ended."""

from collections.abc import Collection, Sequence

from worker.domain import Draft, Message, Role, open_calls
from worker.loop.tools import NO_RESULT

NOT_MADE = "Not made: {because}."


def unanswered(log: Sequence[Message], *, because: str, never_made: Collection[str] = ()) -> list[Draft]:
    """Return results for the calls without one, because a terminal run has no call without a result.

    A tool may have been running when the run ended, here or in a process that was lost; not if the call waited for a
    decision: *never_made* has the idempotency keys of those.
    """

    def text(message: Message, index: int) -> str:
        waited = any(key.endswith(f":{message.seq}:{index}") for key in never_made)
        return (NOT_MADE if waited else NO_RESULT).format(because=because)

    return [
        Draft(Role.TOOL, call.name, text(reply, index), tool_call_id=call.id, delegation=reply.delegation)
        for reply, index, call in open_calls(log)
    ]


def below(log: Sequence[Message], delegation: str) -> list[Message]:
    """Return the messages of a delegation and of all delegations inside it. *log* is in order."""
    inside, found = {delegation}, []
    for message in log:
        if message.delegation in inside:
            found.append(message)
            inside.update(f"{message.seq}.{index}" for index in range(len(message.tool_calls)))
    return found
