"""The teams that test workers serve."""

from worker import Limits, OpenAIChat, RunContext, Team, tool


@tool
def look_up(context: RunContext) -> str:
    """Look something up."""
    return f"found {context.idempotency_key}"


plain = Team(id="plain", model=OpenAIChat(id="rules"))
remembers = Team(id="remembers", model=OpenAIChat(id="rules"), add_history_to_context=True, num_history_runs=3)
with_tool = Team(id="with-tool", model=OpenAIChat(id="rules"), tools=[look_up], limits=Limits(turns=12))
