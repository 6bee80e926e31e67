"""The borders between the loop and whatever keeps its messages."""

from collections.abc import Sequence
from typing import Any, Protocol

from worker.domain.event import Event
from worker.domain.message import Draft, Message
from worker.domain.state import NO_CHANGE, StateChange
from worker.domain.usage import Usage


class Journal(Protocol):
    """What the loop has written, and how it writes more. Safe to use from several threads.

    A message that was written is kept; a write of a process whose run was taken over raises LeaseLost.
    """

    @property
    def log(self) -> list[Message]:
        """The run's messages so far, its input first, those of delegations among them."""

    @property
    def usage(self) -> Usage:
        """What the run has used so far."""

    @property
    def state(self) -> dict[str, Any]:
        """The session's state, as of this run's last look. Not to be changed in place."""

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        """Write messages, and what they change in the session's state, all or none; add them to the log."""

    def record_start(self, idempotency_key: str) -> bool:
        """Record that a call that is unsafe to repeat starts; False: its start was recorded before."""

    def publish(self, event: Event) -> None:
        """Send an event to the run's watchers. It never waits, and nothing depends on its arrival."""


class HistoryReader(Protocol):
    """The session's messages before this run, for the tools that read them. Newest first; rolled-back runs left out."""

    def chat(self, *, limit: int, num_runs: int | None) -> list[Message]:
        """Return up to *limit* messages of users and leaders, of the last *num_runs* runs or of all."""

    def tool_results(self, *, limit: int) -> list[tuple[Message, Message]]:
        """Return up to *limit* results of tools, each with the reply that asked for it."""
