"""A journal in memory, for tests of the loop alone."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from worker.domain import NO_CHANGE, Draft, Event, Message, PendingCall, Role, StateChange, ToolCall, Usage
from worker.domain.pending import Question


def message(
    seq: int, role: Role, content: str = "", *calls: str, result_of: str | None = None, by: str = ""
) -> Message:
    """A written message; *calls* are ids of calls of the tool `note`, *by* is a delegation."""
    asked = tuple(ToolCall(call, "note", f'{{"text": "{call}"}}') for call in calls)
    return Message(seq, "run", role, "author", by or None, content, asked, result_of, datetime.now(UTC))


INPUT = message(1, Role.USER, "hello")


class ListJournal:
    """A journal in memory. `started` holds the unsafe calls whose start was recorded."""

    def __init__(self, *log: Message, usage: Usage = Usage(), started: Sequence[str] = ()) -> None:
        self.log = list(log) or [INPUT]
        self.usage = usage
        self.started = set(started)
        self.published: list[Event] = []
        self.state: dict[str, Any] = {}
        self.pending: dict[str, PendingCall] = {}

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        self.state = change.applied_to(self.state)
        for d in drafts:
            made = (d.role, d.author, d.delegation, d.content, d.tool_calls, d.tool_call_id, datetime.now(UTC))
            self.log.append(Message(self.log[-1].seq + 1, "run", *made, extra=d.extra))
            self.usage += d.usage

    def record_start(self, idempotency_key: str) -> bool:
        new = idempotency_key not in self.started
        self.started.add(idempotency_key)
        return new

    def record_pending(self, idempotency_key: str, question: Question) -> PendingCall:
        raise AssertionError(f"no call of these tests asks: {question.tool}")

    def publish(self, event: Event) -> None:
        self.published.append(event)

    @property
    def results(self) -> dict[str | None, str]:
        """The results that are written, by the id of their call."""
        return {m.tool_call_id: m.content for m in self.log if m.role is Role.TOOL}
