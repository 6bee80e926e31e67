"""What a run tells those who watch it.

An event has an id `<fence>-<n>`, so that a stream in Redis refuses an entry of an older claim, and a JSON object.

    run.queued        {run_id, session_id, team, position}       0-1, made from the row by the endpoint
    run.started       {run_id, attempt}
    run.requeued      {run_id, reason, not_before}
    message.delta     {message_id, author, delegation, delta}
    message.restarted {message_id}                               withdraws the deltas of an unfinished message
    message.completed {message_id, seq, role, author, delegation, content, tool_calls, tool_call_id}
    tool_call.started {tool_call_id, name, author, delegation}
    tool_call.completed {tool_call_id, name, author, delegation}
    delegation.started  {delegation, member, author}
    delegation.completed {delegation, member, author}
    run.completed, run.failed, run.cancelled: the run           <fence>-0, exactly one

A `message_id` names a message of its run, in whatever attempt. The same message can be completed twice, with the same
content, for a reader who comes back after Redis has lost the stream. What is not completed when the run ends was never
written.
"""

from dataclasses import dataclass
from typing import Any

from worker.domain.run import Run

ERASED = "run.erased"  # the run is gone, its stream with it; only who is watching just then sees it
TERMINAL = frozenset({"run.completed", "run.failed", "run.cancelled"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a run's stream."""

    type: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """Place of an event in its stream: by fence, then by number."""

    fence: int
    n: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """Return the id that *text* spells, or None."""
        fence, _, n = text.partition("-")
        return cls(int(fence), int(n)) if fence.isdecimal() and n.isdecimal() and len(text) <= 40 else None


def message_id(delegation: str | None, place: int) -> str:
    """Return the id by which watchers know a message before it has a seq, whichever attempt writes it.

    *place* is how many messages stand before it in its conversation: the leader's, or that of a delegation. No fence
    is in it, so that what an attempt finishes replaces what a lost one began, and a row can be told under its id.
    """
    return f"{place}" if delegation is None else f"{delegation}-{place}"


QUEUED_ID = EventId(0, 1)


def queued(run: Run) -> Event:
    """Return the first event of *run*."""
    return Event(
        "run.queued", {"run_id": run.id, "session_id": run.session_id, "team": run.team, "position": run.position}
    )


def terminal_id(run: Run) -> EventId:
    """Return the id of a terminal run's last event. Finishing raised the fence once more, so it stands last."""
    return EventId(run.fence, 0)
