"""The border between the loop and whatever keeps its messages."""

from collections.abc import Sequence
from typing import Any, Protocol

from worker.domain.message import Draft, Message
from worker.domain.usage import Usage


class Journal(Protocol):
    """What the loop has written, and how it writes more.

    A message that was written is kept; a write of a process whose run was taken over raises LeaseLost.
    """

    @property
    def log(self) -> list[Message]:
        """The run's messages so far, its input first."""

    @property
    def usage(self) -> Usage:
        """What the run has used so far."""

    def write(self, drafts: Sequence[Draft]) -> None:
        """Write messages, all or none, and add them to the log."""

    def record_start(self, idempotency_key: str) -> bool:
        """Record that a call that is unsafe to repeat starts; False: its start was recorded before."""

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Tell those who watch. Nothing waits for it, and nothing depends on it."""
