"""The teams whose runs are looked at in Flower: those of the demo, and one that searches and has a critic."""

import time

from team_sessions import Agent, OpenAIChat, Team, tool

from ops.examples.demo_teams import condensed, team


@tool
def search(seconds: float) -> str:
    """Search for some *seconds*."""
    time.sleep(seconds)
    return "found"


critic = Agent(id="critic", model=OpenAIChat(id="rules"), role="finds what is wrong", tools=[search])
desk = Team(id="desk", tools=[search], members=[critic])

__all__ = ["condensed", "desk", "team"]
