"""Agno's names, for the experiments. Runs in Agno's environment, and imports nothing of this repository."""

from agno.agent import Agent
from agno.db.sqlite import SqliteDb
from agno.models.openai import OpenAIChat
from agno.run import RunContext
from agno.session import SessionSummaryManager
from agno.team import Team
from names_summaries import experiments

experiments.carry_out(Agent, OpenAIChat, RunContext, SessionSummaryManager, SqliteDb, Team)
