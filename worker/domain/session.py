"""A session: one user's conversation with one team."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as its row has it. `session_id` is unique for its user; `state` is what tools keep in it.

    `summary_version` is 0 without a summary; else `summary_seq` is the last message that it covers.
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
    summary_seq: int
    created_at: datetime
    updated_at: datetime
