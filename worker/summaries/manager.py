"""`SessionSummaryManager`: with which model and prompt a team's summaries are made."""

from dataclasses import dataclass

from worker.domain.chat import ChatModel


@dataclass(frozen=True, slots=True)
class SessionSummaryManager:
    """How summaries are made and updated.

    `model` defaults to the team's, `session_summary_prompt` to a prompt of ours.
    """

    model: ChatModel | None = None
    session_summary_prompt: str | None = None
