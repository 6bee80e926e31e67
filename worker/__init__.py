"""Team Sessions: durable, queue-backed sessions with teams of LLM agents.

To define teams: `from worker import Team, OpenAIChat, tool`. Programs that only enqueue runs use
`from api_stub.client import Client`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.agent import Agent
    from worker.db import PostgresDb, SqliteDb
    from worker.domain import ChatModel, Retention, SessionSummaryManager
    from worker.loop.definition import Limits
    from worker.loop.tools import RunContext, Tool, tool
    from worker.models.openai_chat import OpenAIChat
    from worker.models.scripted import Calls, ScriptedModel
    from worker.team import Team

__all__ = [
    "Agent",
    "Calls",
    "ChatModel",
    "Limits",
    "OpenAIChat",
    "PostgresDb",
    "Retention",
    "RunContext",
    "ScriptedModel",
    "SessionSummaryManager",
    "SqliteDb",
    "Team",
    "Tool",
    "tool",
]

# A name's module is imported when the name is first used: most commands need few of them, and openai is slow to import.
_MODULES = {
    "worker.agent": ("Agent",),
    "worker.db": ("PostgresDb", "SqliteDb"),
    "worker.domain.chat": ("ChatModel",),
    "worker.domain.retention": ("Retention",),
    "worker.domain.summary": ("SessionSummaryManager",),
    "worker.loop.definition": ("Limits",),
    "worker.loop.tools": ("RunContext", "Tool", "tool"),
    "worker.models.openai_chat": ("OpenAIChat",),
    "worker.models.scripted": ("Calls", "ScriptedModel"),
    "worker.team": ("Team",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'worker' has no attribute {name!r}")
