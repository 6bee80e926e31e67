"""The teams that the workers of these tests serve."""

from tests.support.teams import plain, waits, with_tool
from worker import OpenAIChat, RunContext, Team, tool


@tool
def dawdle(context: RunContext) -> str:
    """Take long, as long as somebody waits for it."""
    context.cancelled.wait(60)
    return "too late"


slow_tool = Team(id="slow-tool", model=OpenAIChat(id="rules"), tools=[dawdle])

__all__ = ["plain", "slow_tool", "waits", "with_tool"]
