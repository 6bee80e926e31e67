"""A session: one user's conversation with one team."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from worker.domain.fields import field


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """How much of a session is condensed in its summary."""

    version: Annotated[int, field("Counts from 1.", 2)]
    covers_through_seq: Annotated[int, field("The seq of the last message that it covers.", 40)]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as its row has it. `session_id` is unique per user; `state` is what its tools store.

    `summary_version` is 0 if there is no summary; `covers_through_seq` is the last message that the summary covers.
    """

    session_id: str
    user_id: str
    team: str
    name: str | None
    description: str | None
    tags: list[str]
    metadata: dict[str, Any]
    state: dict[str, Any]
    run_count: int
    message_count: int
    summary_version: int
    covers_through_seq: int
    created_at: datetime
    updated_at: datetime

    @property
    def summary(self) -> SessionSummary | None:
        """Which part of it the summary covers; None: it has no summary."""
        return SessionSummary(self.summary_version, self.covers_through_seq) if self.summary_version else None
