"""Our names, for the experiments."""

from names_summaries import experiments

from worker import Agent, Limits, OpenAIChat, RunContext, SessionSummaryManager, SqliteDb, Team

experiments.carry_out(Agent, Limits, OpenAIChat, RunContext, SessionSummaryManager, SqliteDb, Team)
