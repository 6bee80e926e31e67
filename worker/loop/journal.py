"""The interfaces between the loop and the storage of its messages."""

from collections.abc import Sequence
from typing import Any, Protocol

from worker.domain import NO_CHANGE, Draft, Event, Message, StateChange, Usage


class Journal(Protocol):
    """The messages of a run, and how the loop adds more. Safe to use from several threads.

    A write raises LeaseLost after another process has taken the run over.
    """

    @property
    def log(self) -> list[Message]:
        """The run's messages, its input first, including those of delegations."""

    @property
    def usage(self) -> Usage:
        """What the run has used."""

    @property
    def state(self) -> dict[str, Any]:
        """The session's state, as this run last read it. Do not change it in place."""

    def write(self, drafts: Sequence[Draft], *, change: StateChange = NO_CHANGE) -> None:
        """Write messages and their change of the session's state, in one transaction; add them to the log."""

    def record_start(self, idempotency_key: str) -> bool:
        """Record the start of a call that is not safe to repeat; False: it was recorded before."""

    def publish(self, event: Event) -> None:
        """Send an event to the run's watchers. It never waits, and nothing depends on its arrival."""


class HistoryReader(Protocol):
    """The session's messages before this run, for the tools that read them. Newest first, without rolled-back runs."""

    def chat(self, *, limit: int, num_runs: int | None) -> list[Message]:
        """Return up to *limit* messages of users and leaders, of the last *num_runs* runs or of all."""

    def tool_results(self, *, limit: int) -> list[tuple[Message, Message]]:
        """Return up to *limit* results of tools, each with the reply that asked for it."""
